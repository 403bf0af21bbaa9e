"""RealNVP on two-dimensional data; the loss is a negative log-likelihood in nats and goes below zero."""
import math

import torch
from torch import nn

torch.manual_seed(0)


def moons(n):
    a = math.pi * torch.rand(n)
    up = torch.rand(n) < 0.5
    x = torch.where(up, a.cos(), 1 - a.cos())
    y = torch.where(up, a.sin(), 0.5 - a.sin())
    return 0.3 * (torch.stack([x, y], 1) - torch.tensor([0.5, 0.25])) + 0.012 * torch.randn(n, 2)


class Coupling(nn.Module):
    def __init__(self, swap, h=64):
        super().__init__()
        self.swap = swap
        self.net = nn.Sequential(nn.Linear(1, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU(), nn.Linear(h, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, x):
        a, b = x.flip(1).chunk(2, 1) if self.swap else x.chunk(2, 1)
        s, t = self.net(a).chunk(2, 1)
        s = 2.5 * torch.tanh(s / 2.5)
        out = torch.cat([a, b * s.exp() + t], 1)
        return (out.flip(1) if self.swap else out), s.squeeze(1)

    def inverse(self, z):
        a, b = z.flip(1).chunk(2, 1) if self.swap else z.chunk(2, 1)
        s, t = self.net(a).chunk(2, 1)
        s = 2.5 * torch.tanh(s / 2.5)
        out = torch.cat([a, (b - t) * (-s).exp()], 1)
        return out.flip(1) if self.swap else out


class Flow(nn.Module):
    def __init__(self, n=8):
        super().__init__()
        self.layers = nn.ModuleList(Coupling(i % 2 == 1) for i in range(n))

    def log_prob(self, x):
        logdet = 0
        for layer in self.layers:
            x, ld = layer(x)
            logdet = logdet + ld
        return -0.5 * (x ** 2).sum(1) - math.log(2 * math.pi) + logdet

    @torch.no_grad()
    def sample(self, n):
        z = torch.randn(n, 2)
        for layer in reversed(self.layers):
            z = layer.inverse(z)
        return z


flow = Flow()
opt = torch.optim.Adam(flow.parameters(), lr=3e-3)
STEPS = 700
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, STEPS)
for step in range(STEPS):
    loss = -flow.log_prob(moons(256)).mean()
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
    opt.step()
    sched.step()
    if step % 100 == 0:
        print(f"{step} nll {loss.item():.3f}")
test = moons(2000)
gauss = torch.distributions.MultivariateNormal(test.mean(0), test.T.cov())
with torch.no_grad():
    gap = torch.cdist(flow.sample(500), moons(4000)).min(1).values.mean().item()
    print(f"held-out nll {-flow.log_prob(test).mean().item():.3f} (one Gaussian {-gauss.log_prob(test).mean().item():.3f}), "
          f"mean distance of a sample to the data {gap:.4f}")
