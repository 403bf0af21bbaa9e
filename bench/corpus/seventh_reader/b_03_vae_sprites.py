"""Convolutional VAE on 16x16 sprites."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


def make_sprites(n, seed):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:16, 0:16]
    out = np.zeros((n, 1, 16, 16), np.float32)
    for i in range(n):
        cy, cx = rng.uniform(4, 12, 2)
        a, b = rng.uniform(2, 5, 2)
        th = rng.uniform(0, np.pi)
        u = (xx - cx) * np.cos(th) + (yy - cy) * np.sin(th)
        v = -(xx - cx) * np.sin(th) + (yy - cy) * np.cos(th)
        d = (u / a) ** 2 + (v / b) ** 2
        out[i, 0] = 1 / (1 + np.exp(4 * (d - 1)))
    return torch.from_numpy(out)


class VAE(nn.Module):
    def __init__(self, latent=8):
        super().__init__()
        self.enc = nn.Sequential(
            nn.Conv2d(1, 16, 4, 2, 1), nn.ReLU(),
            nn.Conv2d(16, 32, 4, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.Linear(512, 128), nn.ReLU(),
        )
        self.to_mu = nn.Linear(128, latent)
        self.to_logvar = nn.Linear(128, latent)
        self.dec = nn.Sequential(
            nn.Linear(latent, 128), nn.ReLU(), nn.Linear(128, 512), nn.ReLU(),
            nn.Unflatten(1, (32, 4, 4)),
            nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.ReLU(),
            nn.ConvTranspose2d(16, 1, 4, 2, 1),
        )

    def encode(self, x):
        h = self.enc(x)
        return self.to_mu(h), self.to_logvar(h)

    def forward(self, x):
        mu, logvar = self.encode(x)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.dec(z), mu, logvar


def vae_loss(logits, x, mu, logvar, beta):
    rec = F.binary_cross_entropy_with_logits(logits, x)
    kld = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp(), dim=1).mean()
    return rec + beta * kld, rec, kld


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--epochs", type=int, default=15)
    p.add_argument("--batch-size", type=int, default=64)
    p.add_argument("--lr", type=float, default=2e-3)
    p.add_argument("--beta", type=float, default=1.0)
    args = p.parse_args()

    torch.manual_seed(1)
    train = DataLoader(TensorDataset(make_sprites(2000, 0)), args.batch_size, shuffle=True)
    held_out = make_sprites(400, 99)
    model = VAE()
    opt = torch.optim.Adam(model.parameters(), lr=args.lr)

    for epoch in range(1, args.epochs + 1):
        model.train()
        stats = np.zeros(3)
        for (x,) in train:
            logits, mu, logvar = model(x)
            loss, rec, kld = vae_loss(logits, x, mu, logvar, args.beta)
            opt.zero_grad()
            loss.backward()
            opt.step()
            stats += [loss.item(), rec.item(), kld.item()]
        stats /= len(train)
        print(f"[{epoch:02d}] loss {stats[0]:.4f}  recon {stats[1]:.4f}  kl {stats[2]:.4f}")

    model.eval()
    with torch.no_grad():
        mu, _ = model.encode(held_out)
        mse = F.mse_loss(torch.sigmoid(model.dec(mu)), held_out).item()
        samples = torch.sigmoid(model.dec(torch.randn(200, mu.shape[1])))
    print(f"held-out reconstruction mse {mse:.4f}")
    print(f"spread of samples {samples.std(0).mean():.4f} (data {held_out.std(0).mean():.4f})")


if __name__ == "__main__":
    main()
