"""Binary segmentation of bright ellipses with a small U-Net and flip augmentation."""
import random
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

random.seed(0)
torch.manual_seed(0)
S = 32

class Cells(Dataset):
    def __init__(self, n, augment=False):
        yy, xx = torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij")
        self.items, self.augment = [], augment
        for _ in range(n):
            cy, cx = random.uniform(6, S - 6), random.uniform(6, S - 6)
            a, b = random.uniform(3, 8), random.uniform(3, 8)
            mask = (((yy - cy) / a) ** 2 + ((xx - cx) / b) ** 2 < 1).float()[None]
            img = 0.9 * mask + 0.3 * torch.sin(xx / 3 + random.random() * 6) + 0.5 * torch.randn(1, S, S)
            self.items.append((img, mask))

    def __len__(self):
        return len(self.items)

    def __getitem__(self, i):
        x, y = self.items[i]
        if self.augment and random.random() < 0.5:
            x = x.flip(-1)
        return x, y

def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())

class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1, self.d2, self.mid = block(1, 12), block(12, 24), block(24, 24)
        self.u2, self.u1 = block(48, 24), block(36, 12)
        self.out = nn.Conv2d(12, 1, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        m = self.mid(F.max_pool2d(b, 2))
        u = self.u2(torch.cat([F.interpolate(m, scale_factor=2), b], 1))
        return self.out(self.u1(torch.cat([F.interpolate(u, scale_factor=2), a], 1)))

train_dl = DataLoader(Cells(600, augment=True), batch_size=20, shuffle=True)
test_dl = DataLoader(Cells(200), batch_size=50)
net = UNet()
opt = torch.optim.Adam(net.parameters(), lr=2e-3)

for epoch in range(8):
    net.train()
    total = 0.0
    for x, y in train_dl:
        loss = F.binary_cross_entropy_with_logits(net(x), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item()
    net.eval()
    inter = union = 0
    with torch.no_grad():
        for x, y in test_dl:
            p = net(x) > 0
            inter += (p & (y > 0)).sum().item()
            union += (p | (y > 0)).sum().item()
    print(f"epoch {epoch + 1}: loss {total / len(train_dl):.4f} IoU {inter / union:.3f}")
