import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(10)
torch.manual_seed(10)


def make(n):
    X = rng.normal(size=(n, 14)).astype("float32")
    amount = np.exp(0.8 * X[:, 0])
    score = 1.1 * X[:, 1] - 0.9 * X[:, 2] + 0.7 * X[:, 3] * X[:, 4] + 0.25 * amount + 0.9 * rng.normal(size=n)
    y = (score > 3.1).astype("float32")
    return X, y


X_train, y_train = make(6000)
X_test, y_test = make(4000)
print(f"fraud rate {y_train.mean():.3f}")

mu, sd = X_train.mean(0), X_train.std(0)
X_train, X_test = (X_train - mu) / sd, (X_test - mu) / sd

net = nn.Sequential(
    nn.Linear(14, 64), nn.ReLU(), nn.Dropout(0.1),
    nn.Linear(64, 32), nn.ReLU(),
    nn.Linear(32, 1),
)
# few positives: weight the two classes
criterion = nn.BCEWithLogitsLoss(pos_weight=torch.tensor(y_train.mean() / (1 - y_train.mean())))
optimizer = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-4)
loader = DataLoader(TensorDataset(torch.from_numpy(X_train), torch.from_numpy(y_train)), batch_size=128, shuffle=True)

for epoch in range(10):
    net.train()
    running = 0.0
    for xb, yb in loader:
        optimizer.zero_grad()
        loss = criterion(net(xb).squeeze(1), yb)
        loss.backward()
        optimizer.step()
        running += loss.item() * len(xb)
    print(f"epoch {epoch:2d} loss {running / len(X_train):.4f}")

net.eval()
with torch.no_grad():
    p = torch.sigmoid(net(torch.from_numpy(X_test))).squeeze(1).numpy()
pred = p > 0.5
tp = (pred & (y_test == 1)).sum()
recall = tp / y_test.sum()
spec = ((~pred) & (y_test == 0)).sum() / (y_test == 0).sum()
print(f"test accuracy {(pred == y_test).mean():.3f}")
print(f"test recall {recall:.3f} balanced accuracy {(recall + spec) / 2:.3f}")
