"""Co-teaching under label noise: two networks, each learns from the rows the other one finds easy."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(8)
rng = np.random.default_rng(8)
K, D, NOISE = 5, 20, 0.4
centres = rng.normal(0, 1.0, (K, D))
warp = rng.normal(0, 0.4, (D, D))


def make(n):
    y = rng.integers(0, K, n)
    x = centres[y] + rng.normal(0, 0.9, (n, D))
    return torch.tensor(x + np.tanh(x @ warp), dtype=torch.float32), torch.tensor(y)


x, y_true = make(2400)
flip = torch.from_numpy(rng.random(len(y_true)) < NOISE)
y_noisy = torch.where(flip, (y_true + torch.from_numpy(rng.integers(1, K, len(y_true)))) % K, y_true)
x_dev, y_dev = x[2000:], y_noisy[2000:]                 # the development set is noisy as well
x, y_noisy = x[:2000], y_noisy[:2000]
x_test, y_test = make(1500)


def mlp():
    return nn.Sequential(nn.Linear(D, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, K))


def acc(m, a, b):
    with torch.no_grad():
        return (m(a).argmax(1) == b).float().mean().item()


a, b = mlp(), mlp()
opt_a, opt_b = (torch.optim.Adam(m.parameters(), lr=1e-3) for m in (a, b))
loader = DataLoader(TensorDataset(x, y_noisy), batch_size=64, shuffle=True)
for epoch in range(20):
    keep = 1 - NOISE * min(1.0, epoch / 6)
    for xb, yb in loader:
        la = F.cross_entropy(a(xb), yb, reduction="none")
        lb = F.cross_entropy(b(xb), yb, reduction="none")
        k = max(1, int(keep * len(xb)))
        easy_a = la.detach().topk(k, largest=False).indices
        easy_b = lb.detach().topk(k, largest=False).indices
        for opt, loss in ((opt_a, la[easy_b].mean()), (opt_b, lb[easy_a].mean())):
            opt.zero_grad()
            loss.backward()
            opt.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch} keep {keep:.2f} noisy dev {acc(a, x_dev, y_dev):.3f} {acc(b, x_dev, y_dev):.3f}")

plain = mlp()
opt = torch.optim.Adam(plain.parameters(), lr=1e-3)
for _ in range(20):
    for xb, yb in loader:
        opt.zero_grad()
        F.cross_entropy(plain(xb), yb).backward()
        opt.step()
print(f"clean test accuracy: co-teaching {acc(a, x_test, y_test):.3f} / {acc(b, x_test, y_test):.3f}, plain training {acc(plain, x_test, y_test):.3f}")
