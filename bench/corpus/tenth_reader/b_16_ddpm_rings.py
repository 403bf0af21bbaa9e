import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
STEPS = 60
betas = torch.linspace(1e-3, 0.12, STEPS)
alphas = 1 - betas
abar = torch.cumprod(alphas, 0)


def default(val, d):
    return val if val is not None else d()


def q_sample(x_start, t, noise=None):
    noise = default(noise, lambda: torch.randn_like(x_start))
    a = abar[t].unsqueeze(-1)
    return a.sqrt() * x_start + (1 - a).sqrt() * noise


def real(n):
    a = 2 * math.pi * torch.rand(n)
    r = torch.where(torch.rand(n) < 0.5, 0.6, 1.5) + 0.05 * torch.randn(n)
    return torch.stack([r * a.cos(), r * a.sin()], 1)


class Eps(nn.Module):
    def __init__(self, h=128):
        super().__init__()
        self.t = nn.Embedding(STEPS, 32)
        self.net = nn.Sequential(nn.Linear(34, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU(), nn.Linear(h, 2))

    def forward(self, x, t):
        return self.net(torch.cat([x, self.t(t)], 1))


model = Eps()


def p_losses(x0, t):
    noise = torch.randn_like(x0)
    xt = q_sample(x0, t)
    return F.mse_loss(model(xt, t), noise)


opt = torch.optim.Adam(model.parameters(), lr=2e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 1200)
for step in range(1200):
    x0 = real(256)
    loss = p_losses(x0, torch.randint(0, STEPS, (256,)))
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if step % 300 == 0:
        print(f"step {step} loss {loss.item():.3f}")


@torch.no_grad()
def sample(n):
    x = torch.randn(n, 2)
    for i in reversed(range(STEPS)):
        t = torch.full((n,), i)
        e = model(x, t)
        x = (x - betas[i] / (1 - abar[i]).sqrt() * e) / alphas[i].sqrt()
        if i:
            x = x + betas[i].sqrt() * torch.randn_like(x)
    return x


def mmd(a, b):
    def k(u, v):
        d = torch.cdist(u, v) ** 2
        return sum(torch.exp(-d / s) for s in (0.05, 0.2, 1.0)).mean()
    return (k(a, a) + k(b, b) - 2 * k(a, b)).item()


x = sample(1000)
r = x.norm(dim=1)
on = (((r - 0.6).abs() < 0.2) | ((r - 1.5).abs() < 0.2)).float().mean().item()
print(f"samples on a ring {on:.3f}  mmd to held-out data {mmd(x, real(1000)):.4f}")
