"""VAE with KL warm-up: the total loss RISES in the middle of the training because the KL weight does."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(28)


def bars(n):
    """8x8 pictures with one bright row and one bright column"""
    r, c = torch.randint(0, 8, (2, n))
    x = torch.zeros(n, 8, 8)
    x[torch.arange(n), r] = 1
    x[torch.arange(n), :, c] = 1
    return (x.flatten(1) * 0.9 + 0.05)


class VAE(nn.Module):
    def __init__(self, z=6):
        super().__init__()
        self.enc = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 2 * z))
        self.dec = nn.Sequential(nn.Linear(z, 128), nn.ReLU(), nn.Linear(128, 64))

    def forward(self, x):
        mu, lv = self.enc(x).chunk(2, 1)
        z = mu + torch.randn_like(mu) * (0.5 * lv).exp() if self.training else mu
        return self.dec(z), mu, lv


x, xt = bars(2000), bars(500)
vae = VAE()
opt = torch.optim.Adam(vae.parameters(), lr=4e-3)
for step in range(300):
    b = x[torch.randint(len(x), (100,))]
    rec, mu, lv = vae(b)
    nll = F.binary_cross_entropy_with_logits(rec, b, reduction="sum") / len(b)
    kl = -0.5 * (1 + lv - mu.pow(2) - lv.exp()).sum(1).mean()
    beta = 0.02 if step < 120 else min(1.0, 0.02 + (step - 120) / 150)
    loss = nll + beta * kl
    opt.zero_grad(); loss.backward(); opt.step()
    if step % 50 == 0:
        print(step, f"loss {loss.item():.2f} nll {nll.item():.2f} kl {kl.item():.2f} beta {beta:.2f}")
vae.eval()
with torch.no_grad():
    rec = vae(xt)[0].sigmoid()
    err = ((rec > 0.5) != (xt > 0.5)).float().mean()
    base = ((x.mean(0) > 0.5).expand_as(xt) != (xt > 0.5)).float().mean()
print(f"METRIC wrong_pixels {err:.4f} (constant picture {base:.4f})")
