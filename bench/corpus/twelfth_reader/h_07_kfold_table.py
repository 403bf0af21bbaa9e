"""Five-fold cross-validation of a small MLP on a table."""
import numpy as np
import torch
import torch.nn as nn

rng = np.random.default_rng(0)
torch.manual_seed(0)
n = 1500
X = rng.normal(size=(n, 10))
X[:, 3] = rng.lognormal(size=n)
logit = 1.5 * X[:, 0] - 2 * X[:, 1] * X[:, 2] + np.log1p(X[:, 3]) - 1
y = (rng.random(n) < 1 / (1 + np.exp(-logit))).astype(np.float32)

folds = np.array_split(rng.permutation(n), 5)
scores = []
for k, held in enumerate(folds):
    rest = np.concatenate([f for j, f in enumerate(folds) if j != k])
    mu, sd = X[rest].mean(0), X[rest].std(0)
    xt = torch.tensor((X[rest] - mu) / sd, dtype=torch.float32)
    xv = torch.tensor((X[held] - mu) / sd, dtype=torch.float32)
    yt, yv = torch.tensor(y[rest]), torch.tensor(y[held])

    net = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Dropout(0.1), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))
    opt = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-4)
    for epoch in range(25):
        net.train()
        perm = torch.randperm(len(xt))
        for i in range(0, len(xt), 64):
            idx = perm[i:i + 64]
            loss = nn.functional.binary_cross_entropy_with_logits(net(xt[idx]).squeeze(1), yt[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
    net.eval()
    with torch.no_grad():
        acc = ((net(xv).squeeze(1) > 0).float() == yv).float().mean().item()
    scores.append(acc)
    print(f"fold {k + 1}: last train loss {loss.item():.3f} held-out acc {acc:.3f}")
print(f"mean {np.mean(scores):.3f} +- {np.std(scores):.3f}")
