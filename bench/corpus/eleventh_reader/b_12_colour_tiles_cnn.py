"""Classify small RGB tiles stored as uint8 arrays of shape (N, H, W, C)."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(17)
torch.manual_seed(17)
SIZE, CLASSES = 15, 6


def tiles(n):
    y = rng.integers(0, CLASSES, n)
    x = rng.normal(110, 45, (n, SIZE, SIZE, 3))
    for i, c in enumerate(y):
        r, k = rng.integers(0, SIZE - 5, 2)
        hue, shape = c % 3, c // 3
        if shape == 0:
            x[i, r:r + 5, k + 2, hue] += 130
            x[i, r + 2, k:k + 5, hue] += 130
        else:
            x[i, r, k:k + 5, hue] += 130
            x[i, r:r + 5, k, hue] += 130
    return np.clip(x, 0, 255).astype(np.uint8), y


def to_tensor(x):
    t = torch.from_numpy(x).view(-1, 3, SIZE, SIZE).float() / 255.0
    return (t - 0.45) / 0.2


xtr, ytr = tiles(1500)
xte, yte = tiles(400)
train = DataLoader(TensorDataset(to_tensor(xtr), torch.from_numpy(ytr)), batch_size=50, shuffle=True)

net = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
    nn.AdaptiveMaxPool2d(1), nn.Flatten(), nn.Linear(48, CLASSES))
opt = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-2)

for epoch in range(6):
    net.train()
    total = 0.0
    for xb, yb in train:
        loss = nn.functional.cross_entropy(net(xb), yb)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    print(f"epoch {epoch} loss {total / len(train):.3f}")

net.eval()
with torch.no_grad():
    acc = (net(to_tensor(xte)).argmax(1) == torch.from_numpy(yte)).float().mean().item()
print(f"held-out accuracy {acc:.3f}")
