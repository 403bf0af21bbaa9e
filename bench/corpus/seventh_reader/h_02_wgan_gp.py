"""WGAN-GP on a ring of eight Gaussians."""
import math

import torch
import torch.nn as nn

LATENT = 8
N_CRITIC = 5
LAMBDA = 1.0


def real_batch(n):
    k = torch.randint(0, 8, (n,))
    angle = 2 * math.pi * k / 8
    centre = torch.stack([angle.cos(), angle.sin()], 1) * 1.4
    return centre + 0.07 * torch.randn(n, 2)


def mlp(i, o, h=64):
    return nn.Sequential(nn.Linear(i, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, o))


def gradient_penalty(critic, real, fake):
    eps = torch.rand(len(real), 1)
    mid = (eps * real + (1 - eps) * fake).requires_grad_(True)
    score = critic(mid)
    grad = torch.autograd.grad(score.sum(), mid, create_graph=True)[0]
    return ((grad.norm(dim=1) - 1) ** 2).mean()


@torch.no_grad()
def coverage(gen, n=2000):
    x = gen(torch.randn(n, LATENT))
    angle = 2 * math.pi * torch.arange(8) / 8
    centres = torch.stack([angle.cos(), angle.sin()], 1) * 1.4
    dist, idx = torch.cdist(x, centres).min(1)
    good = dist < 0.25
    share = torch.bincount(idx[good], minlength=8) / n
    return (share > 0.02).sum().item(), good.float().mean().item()


def main():
    torch.manual_seed(0)
    gen, critic = mlp(LATENT, 2), mlp(2, 1)
    opt_g = torch.optim.Adam(gen.parameters(), lr=1e-3, betas=(0.5, 0.9))
    opt_c = torch.optim.Adam(critic.parameters(), lr=1e-3, betas=(0.5, 0.9))
    batch = 128
    for it in range(1, 401):
        for _ in range(N_CRITIC):
            real = real_batch(batch)
            with torch.no_grad():
                fake = gen(torch.randn(batch, LATENT))
            wdist = critic(real).mean() - critic(fake).mean()
            gp = gradient_penalty(critic, real, fake)
            loss_c = -wdist + LAMBDA * gp
            opt_c.zero_grad()
            loss_c.backward()
            opt_c.step()

        for p in critic.parameters():
            p.requires_grad_(False)
        loss_g = -critic(gen(torch.randn(batch, LATENT))).mean()
        opt_g.zero_grad()
        loss_g.backward()
        opt_g.step()
        for p in critic.parameters():
            p.requires_grad_(True)

        if it % 50 == 0:
            modes, share = coverage(gen)
            print(f"it {it:4d}  critic {loss_c.item():+.4f}  gen {loss_g.item():+.4f}  "
                  f"W {wdist.item():.4f}  gp {gp.item():.4f}  modes {modes}/8  on-mode {share:.2f}")


if __name__ == "__main__":
    main()
