"""A small GAN that learns eight Gaussian blobs on a ring."""
import math
import torch
import torch.nn as nn

torch.manual_seed(0)

def real_batch(n):
    k = torch.randint(0, 8, (n,)).float() * (2 * math.pi / 8)
    return torch.stack([torch.cos(k), torch.sin(k)], 1) * 2 + 0.15 * torch.randn(n, 2)

def mlp(i, o):
    return nn.Sequential(nn.Linear(i, 96), nn.LeakyReLU(0.2), nn.Linear(96, 96), nn.LeakyReLU(0.2), nn.Linear(96, o))

G, D = mlp(8, 2), mlp(2, 1)
opt_g = torch.optim.Adam(G.parameters(), lr=1e-3, betas=(0.0, 0.99))
opt_d = torch.optim.Adam(D.parameters(), lr=1e-3, betas=(0.0, 0.99))
bce = nn.BCEWithLogitsLoss()
B = 128

for step in range(2500):
    real = real_batch(B)
    fake = G(torch.randn(B, 8))
    d_loss = bce(D(real), torch.full((B, 1), 0.9)) + bce(D(fake.detach()), torch.zeros(B, 1))
    opt_d.zero_grad()
    d_loss.backward()
    opt_d.step()

    g_loss = bce(D(fake), torch.ones(B, 1))
    opt_g.zero_grad()
    g_loss.backward()
    opt_g.step()
    if step % 500 == 499:
        print(f"step {step + 1}: d {d_loss.item():.3f} g {g_loss.item():.3f}")

with torch.no_grad():
    s = G(torch.randn(2000, 8))
angles = torch.arange(8) * (2 * math.pi / 8)
centers = 2 * torch.stack([torch.cos(angles), torch.sin(angles)], 1)
dist, mode = torch.cdist(s, centers).min(1)
print(f"close to a mode: {(dist < 0.5).float().mean():.3f}, modes covered: {len(mode[dist < 0.5].unique())}/8")
