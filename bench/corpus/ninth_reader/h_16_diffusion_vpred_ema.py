"""1-D signal diffusion: v-prediction, loss plateaus high and noisy early on; sampling uses EMA weights only."""
import copy
import math
import torch
import torch.nn as nn

torch.manual_seed(32)
L, T = 12, 40


def waves(n):
    ph = torch.rand(n, 1) * 2 * math.pi
    return torch.sin(2 * math.pi * torch.arange(L) / L + ph)


ang = (torch.arange(T) + 0.5) / T * math.pi / 2
ca, sa = ang.cos(), ang.sin()


class Net(nn.Module):
    def __init__(self, w=192):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(L + 4, w), nn.SiLU(), nn.Linear(w, w), nn.SiLU(), nn.Linear(w, L))
        nn.init.zeros_(self.f[-1].weight)      # starts by predicting zero
        nn.init.zeros_(self.f[-1].bias)

    def forward(self, x, t):
        time = torch.stack([ca[t], sa[t], ca[t] ** 2, (2 * ang[t]).sin()], 1)
        return self.f(torch.cat([x, time * 2 - 1], 1))


net = Net()
ema = copy.deepcopy(net).requires_grad_(False)
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 300, eta_min=2e-4)
for step in range(300):
    x0 = waves(256)                            # endless data, no data set
    t = torch.randint(0, T, (256,))
    e = torch.randn_like(x0)
    c, s = ca[t, None], sa[t, None]
    loss = ((net(c * x0 + s * e, t) - (c * e - s * x0)) ** 2).mean()
    opt.zero_grad(); loss.backward(); opt.step(); sched.step()
    with torch.no_grad():
        for a, p in zip(ema.parameters(), net.parameters()):
            a.lerp_(p, min(0.5, 1 / (1 + step / 10)) if step < 200 else 0.03)
    if step % 60 == 0:
        print(step, f"{loss.item():.3f}")


@torch.no_grad()
def sample(n):
    x = torch.randn(n, L)
    for i in reversed(range(T)):
        v = ema(x, torch.full((n,), i))
        x0, e = ca[i] * x - sa[i] * v, sa[i] * x + ca[i] * v
        x = x0 if i == 0 else ca[i - 1] * x0 + sa[i - 1] * e
    return x


def distance_to_family(x):
    """rms distance of a sample to the nearest unit sine wave"""
    c = torch.fft.rfft(x)[:, 1]
    grid = torch.arange(L) / L * 2 * math.pi
    nearest = torch.cos(grid + c.angle()[:, None])
    return (x - nearest).pow(2).mean(1).sqrt().mean().item()


print(f"METRIC rms_to_nearest_wave {distance_to_family(sample(500)):.3f} "
      f"(noise {distance_to_family(torch.randn(500, L)):.3f}, real {distance_to_family(waves(500)):.3f})")
