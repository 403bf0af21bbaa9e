"""Which way does the road sign point? 4-way CNN on synthetic 20x20 arrows, with light augmentation."""
import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

CLASSES = ["left", "right", "up", "down"]


def draw(label, rng):
    img = rng.normal(0, 0.35, (20, 20)).astype("float32")
    r, c, n = rng.integers(6, 14), rng.integers(6, 14), rng.integers(3, 6)
    arrow = np.zeros((20, 20), "float32")
    for k in range(-n, n + 1):                       # shaft
        arrow[r, np.clip(c + k, 0, 19)] = 1
    for k in range(3):                               # head at the right end
        arrow[np.clip(r - k, 0, 19), np.clip(c + n - k, 0, 19)] = 1
        arrow[np.clip(r + k, 0, 19), np.clip(c + n - k, 0, 19)] = 1
    turn = {"right": 0, "up": 1, "left": 2, "down": 3}[CLASSES[label]]
    return img + np.rot90(arrow, turn) * rng.uniform(0.7, 1.3)


class Signs(Dataset):
    def __init__(self, n, seed, augment):
        rng = np.random.default_rng(seed)
        self.y = rng.integers(0, 4, n)
        self.x = np.stack([draw(l, rng) for l in self.y])
        self.augment = augment

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = torch.from_numpy(self.x[i].copy())[None]
        if self.augment:
            if torch.rand(()) < 0.5:
                x = x.flip(-1)
            x = x * (0.8 + 0.4 * torch.rand(()))
        return x, int(self.y[i])


class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Linear(24 * 25, 48), nn.ReLU(), nn.Linear(48, 4))


def run():
    torch.manual_seed(6)
    train = DataLoader(Signs(1600, 1, True), 64, shuffle=True)
    test = DataLoader(Signs(500, 2, False), 250)
    net = Net()
    opt = torch.optim.Adam(net.parameters(), 2e-3)
    for epoch in range(6):
        net.train()
        for x, y in train:
            loss = nn.functional.cross_entropy(net(x), y)
            opt.zero_grad(); loss.backward(); opt.step()
        net.eval()
        with torch.no_grad():
            acc = np.mean([(net(x).argmax(1) == y).float().mean().item() for x, y in test])
        print(f"epoch {epoch} loss {loss.item():.3f} test acc {acc:.3f}")
    print(f"METRIC test_acc {acc:.3f}")


run()
