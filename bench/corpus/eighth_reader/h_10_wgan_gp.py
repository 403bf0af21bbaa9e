"""WGAN-GP on a ring of four gaussians: two optimizers, five critic steps per generator step."""
import math

import torch
import torch.nn as nn

torch.manual_seed(0)
ang = torch.arange(4) * math.pi / 2
CENTERS = 2 * torch.stack([ang.cos(), ang.sin()], 1)
Z, BS, N_CRITIC, LAMBDA = 4, 128, 4, 0.1


def real(n):
    return CENTERS[torch.randint(0, 4, (n,))] + 0.2 * torch.randn(n, 2)


def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 64), nn.LeakyReLU(0.2), nn.Linear(64, 64), nn.LeakyReLU(0.2), nn.Linear(64, o))


G, C = mlp(Z, 2), mlp(2, 1)
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.5, 0.9))
opt_c = torch.optim.Adam(C.parameters(), lr=1e-3, betas=(0.5, 0.9))


def gradient_penalty(x, y):
    a = torch.rand(x.size(0), 1)
    m = (a * x + (1 - a) * y).requires_grad_(True)
    g, = torch.autograd.grad(C(m).sum(), m, create_graph=True)
    return ((g.norm(2, dim=1) - 1) ** 2).mean()


@torch.no_grad()
def report(step, lc, w):
    x = G(torch.randn(1000, Z))
    d, k = torch.cdist(x, CENTERS).min(1)
    good = d < 0.6
    modes = len(set(k[good].tolist()))
    print(f"step {step}: critic loss {lc:.3f} wasserstein {w:.3f} modes {modes}/4 close samples {good.float().mean():.2f}")


for step in range(1, 401):
    for _ in range(N_CRITIC):
        x = real(BS)
        with torch.no_grad():
            fake = G(torch.randn(BS, Z))
        w = C(x).mean() - C(fake).mean()
        loss_c = -w + LAMBDA * gradient_penalty(x, fake)
        opt_c.zero_grad()
        loss_c.backward()
        opt_c.step()

    for p in C.parameters():
        p.requires_grad_(False)
    loss_g = -C(G(torch.randn(BS, Z))).mean()
    opt_g.zero_grad()
    loss_g.backward()
    opt_g.step()
    for p in C.parameters():
        p.requires_grad_(True)

    if step % 50 == 0:
        report(step, loss_c.item(), w.item())
