"""Pretrain a backbone on plentiful data, then reuse it frozen for a task with few labels."""
import os
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def gratings(n, n_classes, seed, offset=0.0):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, n_classes, n)
    yy, xx = np.mgrid[0:24, 0:24]
    x = np.zeros((n, 1, 24, 24), np.float32)
    for k in range(n):
        th = np.pi * y[k] / n_classes + offset + rng.normal(0, 0.05)
        w = np.sin((xx * np.cos(th) + yy * np.sin(th)) * rng.uniform(0.6, 1.3) + rng.uniform(0, 6.28))
        x[k, 0] = w * rng.uniform(0.3, 1.0) + rng.normal(0, 0.7, (24, 24))
    return torch.from_numpy(x), torch.from_numpy(y)


class Backbone(nn.Module):
    out_dim = 48

    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 16, 7, padding=3), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, self.out_dim, 3, padding=1), nn.BatchNorm2d(self.out_dim), nn.ReLU(),
        )

    def forward(self, x):
        return self.net(x).mean((2, 3))


class Classifier(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.backbone = Backbone()
        self.fc = nn.Linear(Backbone.out_dim, n_classes)

    def forward(self, x):
        return self.fc(self.backbone(x))


def accuracy(model, x, y):
    model.eval()
    with torch.no_grad():
        return (model(x).argmax(1) == y).float().mean().item()


def fit(model, params, x, y, epochs, lr, batch=50, tag=""):
    opt = torch.optim.Adam(params, lr=lr)
    for epoch in range(1, epochs + 1):
        model.train()
        total = 0.0
        for idx in torch.randperm(len(x)).split(batch):
            loss = F.cross_entropy(model(x[idx]), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item() * len(idx)
        if epoch == 1 or epoch % max(1, epochs // 5) == 0:
            print(f"  {tag} epoch {epoch:3d}  loss {total / len(x):.4f}")


def pretrain(path):
    x, y = gratings(1000, 8, seed=0)
    model = nn.DataParallel(Classifier(8))
    fit(model, model.parameters(), x, y, epochs=4, lr=3e-3, tag="pretrain")
    xv, yv = gratings(300, 8, seed=1)
    print(f"pretraining accuracy {accuracy(model, xv, yv):.3f}")
    torch.save({"state_dict": model.state_dict(), "epoch": 4}, path)


def main():
    torch.manual_seed(0)
    path = os.path.join(tempfile.mkdtemp(), "backbone.pt")
    pretrain(path)

    x, y = gratings(60, 6, seed=10, offset=0.2)
    xt, yt = gratings(500, 6, seed=11, offset=0.2)
    model = Classifier(6)
    checkpoint = torch.load(path, map_location="cpu")
    # the new head has another number of classes, so it stays as initialised
    weights = {k: v for k, v in checkpoint["state_dict"].items() if "fc." not in k}
    model.load_state_dict(weights, strict=False)
    print(f"loaded checkpoint of epoch {checkpoint['epoch']}")
    for p in model.backbone.parameters():
        p.requires_grad_(False)
    fit(model, model.fc.parameters(), x, y, epochs=60, lr=1e-2, batch=20, tag="transfer")
    print(f"target task: train acc {accuracy(model, x, y):.3f}  test acc {accuracy(model, xt, yt):.3f}")


if __name__ == "__main__":
    main()
