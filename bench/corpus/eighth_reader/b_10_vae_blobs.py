"""Variational autoencoder on 16x16 images with one gaussian blob each."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1)
S = 16
grid = torch.stack(torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij"), -1).float()


def blobs(n):
    c = 3 + 10 * torch.rand(n, 1, 1, 2)
    w = 1.5 + 1.5 * torch.rand(n, 1, 1)
    return torch.exp(-((grid - c) ** 2).sum(-1) / (2 * w ** 2)).view(n, -1)


train_x, test_x = blobs(3000), blobs(400)


class VAE(nn.Module):
    def __init__(self, d=S * S, h=128, z=4):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(d, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU())
        self.mu, self.logvar = nn.Linear(h, z), nn.Linear(h, z)
        self.dec = nn.Sequential(nn.Linear(z, h), nn.ReLU(), nn.Linear(h, h), nn.ReLU(), nn.Linear(h, d))

    def forward(self, x):
        h = self.enc(x)
        mu, logvar = self.mu(h), self.logvar(h)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * logvar)
        return self.dec(z), mu, logvar


def vae_loss(logits, x, mu, logvar):
    rec = F.binary_cross_entropy_with_logits(logits, x, reduction="sum") / x.size(0)
    kl = -0.5 * torch.sum(1 + logvar - mu.pow(2) - logvar.exp()) / x.size(0)
    return rec + kl, rec, kl


model = VAE()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(1, 21):
    model.train()
    perm = torch.randperm(len(train_x))
    tot = 0.0
    for i in range(0, len(perm), 64):
        x = train_x[perm[i:i + 64]]
        logits, mu, logvar = model(x)
        loss, rec, kl = vae_loss(logits, x, mu, logvar)
        loss.backward()
        optimizer.step()
        tot += loss.item() * len(x)
    if epoch % 2 == 0:
        model.eval()
        with torch.no_grad():
            logits, mu, logvar = model(test_x)
            tl, rec, kl = vae_loss(logits, test_x, mu, logvar)
            mse = F.mse_loss(torch.sigmoid(logits), test_x)
        print(f"epoch {epoch:2d}  train {tot / len(train_x):.2f}  test {tl.item():.2f} "
              f"(rec {rec.item():.2f}, kl {kl.item():.2f})  mse {mse.item():.4f}")

with torch.no_grad():
    s = torch.sigmoid(model.dec(torch.randn(64, 4)))
print(f"samples: mean {s.mean().item():.3f} (data {train_x.mean().item():.3f}), max {s.max().item():.3f}")
