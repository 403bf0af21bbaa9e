"""Tiny U-Net that segments bright cells on a noisy background."""
import random

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset


class RandomHorizontalFlip:
    def __init__(self, p=0.5):
        self.p = p

    def __call__(self, t):
        return t.flip(-1) if random.random() < self.p else t


class RandomRotate90:
    def __call__(self, t):
        return t.rot90(random.randrange(4), (-2, -1))


class RandomGain:
    def __call__(self, t):
        return t * random.uniform(0.8, 1.2)


class Compose:
    def __init__(self, *ops):
        self.ops = ops

    def __call__(self, t):
        for op in self.ops:
            t = op(t)
        return t


class Cells(Dataset):
    def __init__(self, n, seed, img_tf=None, mask_tf=None):
        rng = np.random.default_rng(seed)
        self.img_tf, self.mask_tf = img_tf, mask_tf
        yy, xx = np.mgrid[0:32, 0:32]
        self.images, self.masks = [], []
        for _ in range(n):
            mask = np.zeros((32, 32), bool)
            for _ in range(rng.integers(1, 4)):
                cy, cx = rng.uniform(4, 28, 2)
                a, b = rng.uniform(2.5, 6, 2)
                mask |= ((yy - cy) / a) ** 2 + ((xx - cx) / b) ** 2 < 1
            img = rng.normal(0, 0.5, (32, 32)) + 1.2 * mask + 0.4 * np.sin(xx / 5 + rng.uniform(0, 6))
            self.images.append(torch.tensor(img, dtype=torch.float32)[None])
            self.masks.append(torch.tensor(mask, dtype=torch.float32)[None])

    def __len__(self):
        return len(self.images)

    def __getitem__(self, i):
        img, mask = self.images[i], self.masks[i]
        if self.img_tf is not None:
            img = self.img_tf(img)
        if self.mask_tf is not None:
            mask = self.mask_tf(mask)
        return img, mask


def block(cin, cout):
    return nn.Sequential(nn.Conv2d(cin, cout, 3, padding=1), nn.BatchNorm2d(cout), nn.ReLU(inplace=True))


class UNet(nn.Module):
    def __init__(self, c=8):
        super().__init__()
        self.d1, self.d2, self.mid = block(1, c), block(c, 2 * c), block(2 * c, 4 * c)
        self.u2, self.u1 = block(6 * c, 2 * c), block(3 * c, c)
        self.out = nn.Conv2d(c, 1, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        m = self.mid(F.max_pool2d(b, 2))
        u = self.u2(torch.cat([F.interpolate(m, scale_factor=2.0), b], 1))
        u = self.u1(torch.cat([F.interpolate(u, scale_factor=2.0), a], 1))
        return self.out(u)


def dice_loss(logits, target, eps=1.0):
    p = torch.sigmoid(logits)
    inter = (p * target).sum((1, 2, 3))
    return 1 - ((2 * inter + eps) / (p.sum((1, 2, 3)) + target.sum((1, 2, 3)) + eps)).mean()


@torch.no_grad()
def mean_iou(model, loader):
    model.eval()
    inter = union = 0.0
    for x, m in loader:
        pred = model(x) > 0
        inter += (pred & (m > 0.5)).sum().item()
        union += (pred | (m > 0.5)).sum().item()
    return inter / max(union, 1)


def main():
    random.seed(0)
    torch.manual_seed(0)
    img_tf = Compose(RandomHorizontalFlip(), RandomRotate90(), RandomGain())
    mask_tf = Compose(RandomHorizontalFlip(), RandomRotate90())
    train = DataLoader(Cells(400, 0, img_tf, mask_tf), batch_size=20, shuffle=True)
    val = DataLoader(Cells(100, 1), batch_size=50)
    net = UNet()
    opt = torch.optim.AdamW(net.parameters(), lr=3e-3)
    for epoch in range(1, 9):
        net.train()
        losses = []
        for x, m in train:
            logits = net(x)
            loss = F.binary_cross_entropy_with_logits(logits, m) + dice_loss(logits, m)
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
        print(f"epoch {epoch}: loss {np.mean(losses):.4f}  val IoU {mean_iou(net, val):.4f}")


if __name__ == "__main__":
    main()
