"""DDPM on two moons."""
import math
import torch
import torch.nn as nn


def moons(n):
    t = torch.rand(n) * math.pi
    up = torch.rand(n) < 0.5
    x = torch.where(up, t.cos(), 1 - t.cos()) - 0.5
    y = torch.where(up, t.sin(), 0.5 - t.sin()) - 0.25
    return torch.stack([x, y], 1) * 1.3 + torch.randn(n, 2) * 0.06


T = 50
beta = torch.linspace(1e-4, 0.25, T)
alpha = 1 - beta
abar = alpha.cumprod(0)


class Eps(nn.Module):
    def __init__(self, w=128):
        super().__init__()
        self.t = nn.Embedding(T, 32)
        self.f = nn.Sequential(nn.Linear(34, w), nn.SiLU(), nn.Linear(w, w), nn.SiLU(), nn.Linear(w, w), nn.SiLU(),
                               nn.Linear(w, 2))

    def forward(self, x, t):
        return self.f(torch.cat([x, self.t(t)], 1))


def diffusion_loss(model, x0, seed=0):
    gen = torch.Generator().manual_seed(seed)      # reproducible noise
    t = torch.randint(0, T, (len(x0),), generator=gen)
    noise = torch.randn(x0.shape, generator=gen)
    a = abar[t].unsqueeze(1)
    return ((model(a.sqrt() * x0 + (1 - a).sqrt() * noise, t) - noise) ** 2).mean()


@torch.no_grad()
def sample(model, n):
    x = torch.randn(n, 2)
    for i in reversed(range(T)):
        e = model(x, torch.full((n,), i))
        x = (x - beta[i] / (1 - abar[i]).sqrt() * e) / alpha[i].sqrt()
        if i:
            x = x + beta[i].sqrt() * torch.randn_like(x)
    return x


torch.manual_seed(3)
data = moons(8192)
model = Eps()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 300)
for step in range(1, 301):
    x0 = data[torch.randint(len(data), (128,))]
    loss = diffusion_loss(model, x0)
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if step % 60 == 0:
        print(step, f"{loss.item():.4f}")

s, r = sample(model, 1500), moons(1500)
ed = 2 * torch.cdist(s, r).mean() - torch.cdist(s, s).mean() - torch.cdist(r, r).mean()
near = (torch.cdist(s, r).min(1).values < 0.1).float().mean()
print(f"METRIC energy_distance {ed:.4f}")
print(f"METRIC share_on_the_moons {near:.3f}")
