"""House price regression from a table, with a custom Huber-like loss and standardised targets."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(23)
torch.manual_seed(23)

n = 3000
area = rng.gamma(6, 20, n)
rooms = rng.integers(1, 8, n)
age = rng.uniform(0, 90, n)
dist = rng.exponential(6, n)
lat, lon = rng.normal(size=(2, n))
price = 40 + 1.6 * area + 9 * rooms - 0.5 * age - 4 * np.sqrt(dist) + 18 * lat * lon + rng.normal(0, 9, n)
X = np.stack([area, rooms, age, dist, lat, lon], 1).astype(np.float32)
y = price.astype(np.float32)

Xtr, Xte, ytr, yte = X[:2400], X[2400:], y[:2400], y[2400:]
mu, sd = Xtr.mean(0), Xtr.std(0)
ym, ys = ytr.mean(), ytr.std()
Xtr, Xte = (Xtr - mu) / sd, (Xte - mu) / sd
loader = DataLoader(TensorDataset(torch.from_numpy(Xtr), torch.from_numpy((ytr - ym) / ys)),
                    batch_size=64, shuffle=True)

net = nn.Sequential(nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))
opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=25 * len(loader))


def robust_loss(pred, target, delta=1.0):
    err = (pred - target).abs()
    return torch.where(err < delta, 0.5 * err ** 2, delta * (err - 0.5 * delta)).mean()


for epoch in range(25):
    total = 0.0
    for xb, yb in loader:
        loss = robust_loss(net(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        total += loss.item()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} loss {total / len(loader):.4f}")

with torch.no_grad():
    pred = net(torch.from_numpy(Xte)).squeeze(1).numpy() * ys + ym
r2 = 1 - ((pred - yte) ** 2).sum() / ((yte - yte.mean()) ** 2).sum()
print(f"held-out R2 {r2:.3f}")
