"""Writes little images to a folder (as our exporter does), reads them back with the label file, trains a CNN."""
import csv
import glob
import os
import tempfile

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def draw(kind, rng):
    im = rng.normal(0, 0.25, (16, 16)).astype("float32")
    r, c = rng.integers(3, 9, 2)
    if kind == 0:
        im[r:r + 5, c] += 1.2
    elif kind == 1:
        im[r, c:c + 5] += 1.2
    elif kind == 2:
        for k in range(5):
            im[r + k, c + k] += 1.2
    else:
        im[r:r + 3, c:c + 3] += 0.9
    return im


def export(folder, n, seed):
    rng = np.random.default_rng(seed)
    with open(os.path.join(folder, "labels.csv"), "w", newline="") as f:
        w = csv.writer(f)
        w.writerow(["index", "label"])
        for i in range(n):
            # our camera works in sessions: the same kind of part for a while
            kind = int(rng.integers(4)) if i % 5 == 0 else kind
            np.save(os.path.join(folder, f"im_{i}.npy"), draw(kind, rng))
            w.writerow([i, kind])


class Parts(Dataset):
    def __init__(self, folder):
        paths = sorted(glob.glob(os.path.join(folder, "*.npy")))
        with open(os.path.join(folder, "labels.csv")) as f:
            self.labels = [int(r["label"]) for r in csv.DictReader(f)]
        self.images = np.stack([np.load(p) for p in paths])
        assert len(self.images) == len(self.labels)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, i):
        return torch.from_numpy(self.images[i])[None], self.labels[i]


class CNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.AdaptiveMaxPool2d(1),
            nn.Flatten(), nn.Linear(24, 4))

    def forward(self, x):
        return self.net(x)


torch.manual_seed(0)
with tempfile.TemporaryDirectory() as train_dir:
    export(train_dir, 1200, seed=1)
    train = Parts(train_dir)
rng = np.random.default_rng(2)
test_y = torch.tensor(rng.integers(0, 4, 400))
test_x = torch.from_numpy(np.stack([draw(int(k), rng) for k in test_y]))[:, None]

model = CNN()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
for epoch in range(6):
    model.train()
    for x, y in DataLoader(train, batch_size=32, shuffle=True):
        loss = nn.functional.cross_entropy(model(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"epoch {epoch} loss {loss.item():.3f}")
model.eval()
with torch.no_grad():
    acc = (model(test_x).argmax(1) == test_y).float().mean()
print(f"accuracy on the reference parts {acc:.3f}")
