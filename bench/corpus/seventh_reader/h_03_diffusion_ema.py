"""Denoising diffusion on 2-D points (two moons) with an EMA copy used for sampling."""
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

T = 60


def two_moons(n, rng):
    a = rng.uniform(0, np.pi, n)
    up = rng.random(n) < 0.5
    x = np.where(up, np.cos(a), 1 - np.cos(a))
    y = np.where(up, np.sin(a), 0.5 - np.sin(a))
    pts = np.stack([x - 0.5, y - 0.25], 1) * 1.4 + rng.normal(0, 0.05, (n, 2))
    return torch.tensor(pts, dtype=torch.float32)


class ResBlock(nn.Module):
    """Starts as the identity: the last layer of each branch is zero."""

    def __init__(self, dim):
        super().__init__()
        self.norm = nn.LayerNorm(dim)
        self.a, self.b = nn.Linear(dim, dim), nn.Linear(dim, dim)
        self.time = nn.Linear(32, dim)
        nn.init.zeros_(self.b.weight)
        nn.init.zeros_(self.b.bias)

    def forward(self, h, temb):
        return h + self.b(F.silu(self.a(self.norm(h)) + self.time(temb)))


class Denoiser(nn.Module):
    def __init__(self, dim=96, depth=3):
        super().__init__()
        self.inp = nn.Linear(2, dim)
        self.blocks = nn.ModuleList(ResBlock(dim) for _ in range(depth))
        self.out = nn.Linear(dim, 2)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x, t):
        freq = torch.exp(-math.log(1000.0) * torch.arange(16) / 16)
        ang = t.float()[:, None] * freq
        temb = torch.cat([ang.sin(), ang.cos()], 1)
        h = self.inp(x)
        for blk in self.blocks:
            h = blk(h, temb)
        return self.out(h)


betas = torch.linspace(1e-3, 0.15, T)
alphas = 1 - betas
abar = torch.cumprod(alphas, 0)


@torch.no_grad()
def sample(model, n):
    x = torch.randn(n, 2)
    for t in reversed(range(T)):
        eps = model(x, torch.full((n,), t))
        x = (x - betas[t] / (1 - abar[t]).sqrt() * eps) / alphas[t].sqrt()
        if t > 0:
            x = x + betas[t].sqrt() * torch.randn_like(x)
    return x


def nearest_distance(a, b):
    d = torch.cdist(a, b)
    return 0.5 * (d.min(1).values.mean() + d.min(0).values.mean()).item()


def main():
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    model = Denoiser()
    ema = copy.deepcopy(model).eval().requires_grad_(False)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.0)
    steps = 1200
    sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps)
    reference = two_moons(1000, rng)
    running = []
    for step in range(1, steps + 1):
        x0 = two_moons(128, rng)
        t = torch.randint(0, T, (len(x0),))
        noise = torch.randn_like(x0)
        a = abar[t][:, None]
        pred = model(a.sqrt() * x0 + (1 - a).sqrt() * noise, t)
        loss = F.mse_loss(pred, noise)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        decay = min(0.99, (1 + step) / (10 + step))
        with torch.no_grad():
            for pe, p in zip(ema.parameters(), model.parameters()):
                pe.lerp_(p, 1 - decay)
        running.append(loss.item())
        if step % 300 == 0:
            dist = nearest_distance(sample(ema, 1000), reference)
            print(f"step {step:5d}  loss {np.mean(running[-300:]):.4f}  sample distance (ema) {dist:.4f}")
    fresh = nearest_distance(two_moons(1000, rng), reference)
    print(f"two fresh data sets are {fresh:.4f} apart, noise and data {nearest_distance(torch.randn(1000, 2), reference):.4f}")


if __name__ == "__main__":
    main()
