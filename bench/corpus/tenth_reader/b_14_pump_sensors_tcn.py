"""Remaining-life regression from 6 pump sensors, dilated 1-d convolutions."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(21)
T, C = 48, 6


def simulate(n):
    wear = torch.rand(n)
    t = torch.linspace(0, 1, T)
    x = torch.randn(n, T, C) * 0.6
    # a short burst on sensor 2 followed by sensor 4; the gap shrinks with wear
    start = torch.randint(2, 16, (n,))
    gap = (4 + 24 * (1 - wear)).round().long()
    rows = torch.arange(n)
    for k in range(3):
        x[rows, start + k, 2] += 3.0
        x[rows, start + gap + k, 4] += 3.0
    x[:, :, 0] += torch.sin(12 * t + 6 * torch.rand(n, 1))
    x = x * torch.tensor([1.0, 40, 5, 0.2, 3, 100]) + torch.tensor([0.0, 300, 10, 1, -4, 1000])
    return x, 1 - wear


class TCN(nn.Module):
    def __init__(self, c, width=32):
        super().__init__()
        self.inp = nn.Conv1d(c, width, 3, padding=1)
        self.blocks = nn.ModuleList(nn.Conv1d(width, width, 3, padding=d, dilation=d) for d in (1, 2, 4, 8))
        self.out = nn.Sequential(nn.Linear(2 * width, 64), nn.ReLU(), nn.Linear(64, 1))

    def forward(self, x):
        B, T, C = x.shape
        x = x.view(B, C, T)
        h = F.relu(self.inp(x))
        for conv in self.blocks:
            h = h + F.relu(conv(h))
        h = torch.cat([h.mean(-1), h.amax(-1)], 1)
        return self.out(h).squeeze(-1)


xtr, ytr = simulate(2000)
xte, yte = simulate(500)
m, s = xtr.mean((0, 1)), xtr.std((0, 1))
xtr, xte = (xtr - m) / s, (xte - m) / s

net = TCN(C)
opt = torch.optim.Adam(net.parameters(), lr=2e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=12)
for epoch in range(12):
    net.train()
    total = 0
    for i in torch.randperm(len(xtr)).split(64):
        loss = F.smooth_l1_loss(net(xtr[i]), ytr[i], beta=0.1)
        opt.zero_grad()
        loss.backward()
        opt.step()
        total += loss.item() * len(i)
    sched.step()
    print(f"{epoch:2d} {total / len(xtr):.4f}")
net.eval()
with torch.no_grad():
    err = (net(xte) - yte).abs().mean().item()
print(f"test MAE of remaining life: {err:.4f} (predicting the mean gives {(yte - ytr.mean()).abs().mean().item():.4f})")
