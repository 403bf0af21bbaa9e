"""Train a small CNN on rendered coloured shapes (4 classes)."""
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

CLASSES = ["disk", "square", "cross", "stripes"]
SIZE = 32


def render(rng, cls):
    """Return one HWC uint8 picture, as an image reader would."""
    bg = rng.integers(0, 256, 3)
    fg = rng.integers(0, 256, 3)
    while np.abs(fg.astype(int) - bg.astype(int)).sum() < 120:
        fg = rng.integers(0, 256, 3)
    img = np.tile(bg, (SIZE, SIZE, 1)).astype(np.float32)
    yy, xx = np.mgrid[0:SIZE, 0:SIZE]
    cy, cx = rng.integers(9, SIZE - 9, 2)
    r = rng.integers(4, 8)
    dy, dx = yy - cy, xx - cx
    if cls == 0:
        m = dy ** 2 + dx ** 2 <= r ** 2
    elif cls == 1:
        m = (np.abs(dy) < r) & (np.abs(dx) < r)
    elif cls == 2:
        m = (np.maximum(np.abs(dy), np.abs(dx)) <= r) & ((np.abs(dy) < 2) | (np.abs(dx) < 2))
    else:
        m = (np.maximum(np.abs(dy), np.abs(dx)) <= r) & (dx % 4 < 2)
    img[m] = fg
    img += rng.normal(0, 18, img.shape)
    return img.clip(0, 255).astype(np.uint8)


class ShapeDataset(Dataset):
    def __init__(self, n, seed):
        rng = np.random.default_rng(seed)
        self.labels = rng.integers(0, len(CLASSES), n)
        self.images = [render(rng, c) for c in self.labels]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        img = torch.from_numpy(self.images[i])
        x = img.view(3, SIZE, SIZE).float() / 255.0
        x = (x - 0.5) / 0.25
        return x, int(self.labels[i])


class Net(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(24, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
        )
        self.head = nn.Linear(48, n_classes)

    def forward(self, x):
        return self.head(self.features(x).amax(dim=(2, 3)))


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    correct = total = 0
    loss_sum = 0.0
    for x, y in loader:
        logits = model(x)
        loss_sum += F.cross_entropy(logits, y, reduction="sum").item()
        correct += (logits.argmax(1) == y).sum().item()
        total += len(y)
    return loss_sum / total, correct / total


def main():
    random.seed(0)
    torch.manual_seed(0)
    train_dl = DataLoader(ShapeDataset(1600, 1), batch_size=64, shuffle=True)
    val_dl = DataLoader(ShapeDataset(400, 2), batch_size=200)
    model = Net(len(CLASSES))
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
    epochs = 6
    sched = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, epochs * len(train_dl))
    for epoch in range(epochs):
        model.train()
        running = 0.0
        for x, y in train_dl:
            loss = F.cross_entropy(model(x), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            sched.step()
            running += loss.item() * len(y)
        vl, va = evaluate(model, val_dl)
        print(f"epoch {epoch + 1}/{epochs}  train {running / len(train_dl.dataset):.4f}  val {vl:.4f}  acc {va:.3f}")


if __name__ == "__main__":
    main()
