"""WGAN with weight clipping: negative losses, RMSprop, five critic updates per generator update."""
import torch
import torch.nn as nn

torch.manual_seed(26)


def real(n):
    k = torch.randint(0, 2, (n, 1)).float()
    return torch.cat([k * 3 - 1.5, 0.7 * (1 - 2 * k)], 1) + 0.2 * torch.randn(n, 2)


gen = nn.Sequential(nn.Linear(4, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))
critic = nn.Sequential(nn.Linear(2, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
og = torch.optim.RMSprop(gen.parameters(), lr=1e-3)
oc = torch.optim.RMSprop(critic.parameters(), lr=1e-3)


@torch.no_grad()
def distance():
    a, b = gen(torch.randn(1000, 4)), real(1000)
    return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()).item()


first = distance()
avg = [p.detach().clone() for p in gen.parameters()]
for step in range(300):
    for _ in range(5):
        with torch.no_grad():
            f = gen(torch.randn(128, 4))
        lc = critic(f).mean() - critic(real(128)).mean()
        oc.zero_grad(); lc.backward(); oc.step()
        with torch.no_grad():
            for p in critic.parameters():
                p.clamp_(-0.1, 0.1)
    for p in critic.parameters():
        p.requires_grad_(False)
    lg = -critic(gen(torch.randn(128, 4))).mean()
    og.zero_grad(); lg.backward(); og.step()
    for p in critic.parameters():
        p.requires_grad_(True)
    with torch.no_grad():
        for a, p in zip(avg, gen.parameters()):
            a.lerp_(p, 0.03)
    if step % 60 == 0:
        print(step, f"critic {lc.item():+.4f} generator {lg.item():+.4f}")
with torch.no_grad():
    for a, p in zip(avg, gen.parameters()):
        p.copy_(a)                   # the averaged generator is the one that is used
print(f"METRIC energy_distance {distance():.4f} (untrained {first:.4f})")
