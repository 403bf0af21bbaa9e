"""Residual CNN: learning-rate range test, then SGD with a cyclic rate and weight averaging."""
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

N_CLASSES = 4


def blobs(n, seed):
    rng = np.random.default_rng(seed)
    y = rng.integers(0, N_CLASSES, n)
    yy, xx = np.mgrid[0:16, 0:16]
    x = rng.normal(0, 0.4, (n, 1, 16, 16)).astype(np.float32)
    for i in range(n):
        for _ in range(y[i] + 1):
            cy, cx = rng.uniform(2, 14, 2)
            x[i, 0] += 1.5 * np.exp(-((yy - cy) ** 2 + (xx - cx) ** 2) / 2.0)
    mean, std = 0.09, 0.5
    return TensorDataset(torch.from_numpy((x - mean) / std), torch.from_numpy(y))


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.f = nn.Sequential(
            nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c), nn.ReLU(),
            nn.Conv2d(c, c, 3, padding=1, bias=False), nn.BatchNorm2d(c),
        )
        nn.init.zeros_(self.f[-1].weight)

    def forward(self, x):
        return F.relu(x + self.f(x))


def build():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        Residual(16), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(),
        Residual(32), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(128, N_CLASSES),
    )


def range_test(model, loader, low=1e-4, high=30.0, steps=60):
    """Raise the rate until the loss blows up; put the weights back afterwards."""
    saved = copy.deepcopy(model.state_dict())
    opt = torch.optim.SGD(model.parameters(), lr=low, momentum=0.9)
    factor = (high / low) ** (1 / steps)
    smooth, best, best_lr, k = None, math.inf, low, 0
    model.train()
    while k < steps:
        for x, y in loader:
            loss = F.cross_entropy(model(x), y)
            smooth = loss.item() if smooth is None else 0.8 * smooth + 0.2 * loss.item()
            lr = opt.param_groups[0]["lr"]
            if smooth < best:
                best, best_lr = smooth, lr
            if k % 12 == 0:
                print(f"  range test  lr {lr:.2e}  loss {smooth:.4f}")
            if smooth > 4 * best or not math.isfinite(smooth) or k >= steps:
                k = steps
                break
            opt.zero_grad()
            loss.backward()
            opt.step()
            opt.param_groups[0]["lr"] = lr * factor
            k += 1
    model.load_state_dict(saved)
    return best_lr / 10


@torch.no_grad()
def accuracy(model, loader):
    model.eval()
    hit = sum((model(x).argmax(1) == y).sum().item() for x, y in loader)
    return hit / len(loader.dataset)


def main():
    torch.manual_seed(0)
    train = DataLoader(blobs(1200, 0), batch_size=64, shuffle=True)
    test = DataLoader(blobs(400, 1), batch_size=200)
    model = build()
    lr = range_test(model, train)
    print(f"peak learning rate chosen: {lr:.3f}")
    opt = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9, nesterov=True, weight_decay=5e-4)
    cycle = 3 * len(train)
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: 0.5 * (1 + math.cos(math.pi * (s % cycle) / cycle)))
    average = AveragedModel(model)
    for epoch in range(1, 10):
        model.train()
        losses = []
        for x, y in train:
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            losses.append(loss.item())
        if epoch in (6, 9):
            average.update_parameters(model)
        print(f"epoch {epoch}  loss {np.mean(losses):.4f}  train acc {accuracy(model, train):.3f}  test acc {accuracy(model, test):.3f}")
    update_bn(train, average)
    print(f"averaged weights: test acc {accuracy(average, test):.3f}")


if __name__ == "__main__":
    main()
