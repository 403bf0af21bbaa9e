"""GAN on a ring of 8 Gaussians."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)


def real_batch(n):
    k = torch.randint(0, 8, (n,)) * (2 * math.pi / 8)
    return torch.stack([k.cos(), k.sin()], 1) * 2 + torch.randn(n, 2) * 0.08


def mlp(i, o, w=96):
    return nn.Sequential(nn.Linear(i, w), nn.LeakyReLU(0.2), nn.Linear(w, w), nn.LeakyReLU(0.2), nn.Linear(w, o))


G, D = mlp(8, 2), mlp(2, 1)
opt_g = torch.optim.Adam(G.parameters(), lr=3e-3, betas=(0.5, 0.99))
opt_d = torch.optim.Adam(D.parameters(), lr=3e-3, betas=(0.5, 0.99))
ONE, ZERO = torch.ones(128, 1), torch.zeros(128, 1)
bce = F.binary_cross_entropy_with_logits

for step in range(1, 1 + 300):
    opt_g.zero_grad()
    opt_d.zero_grad()

    fake = G(torch.randn(128, 8))
    real = real_batch(128)
    loss_d = bce(D(real), ONE) + bce(D(fake), ZERO)
    loss_d.backward(retain_graph=True)
    opt_d.step()

    loss_g = bce(D(fake), ONE)
    loss_g.backward()
    opt_g.step()

    if step % 100 == 0:
        print(f"{step:4d}  D {loss_d.item():.3f}  G {loss_g.item():.3f}")


@torch.no_grad()
def energy_distance(a, b):
    return (2 * torch.cdist(a, b).mean() - torch.cdist(a, a).mean() - torch.cdist(b, b).mean()).item()


with torch.no_grad():
    sample = G(torch.randn(1500, 8))
print(f"METRIC energy_distance_to_fresh_real {energy_distance(sample, real_batch(1500)):.4f}")
