"""BYOL on synthetic spectra, then a linear probe on the frozen encoder."""
import copy
import math

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

N_CLASSES = 6
LENGTH = 64


def spectra(n, seed):
    """Class = distance between two peaks; position, height and baseline vary."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, N_CLASSES, n)
    t = np.arange(LENGTH)
    gap = 5 + 3.0 * y + rng.normal(0, 0.3, n)
    pos = rng.uniform(8, LENGTH - 8 - gap)
    h1, h2 = rng.uniform(0.7, 1.5, n), rng.uniform(0.7, 1.5, n)
    x = h1[:, None] * np.exp(-(t - pos[:, None]) ** 2 / 3)
    x += h2[:, None] * np.exp(-(t - pos[:, None] - gap[:, None]) ** 2 / 3)
    x += rng.normal(0, 0.5, (n, 1)) * (t / LENGTH - 0.5) + rng.normal(0, 0.05, (n, LENGTH))
    return torch.tensor(x, dtype=torch.float32)[:, None], torch.from_numpy(y)


def view(x):
    b = len(x)
    shift = torch.randint(-6, 7, (b, 1))
    idx = (torch.arange(LENGTH) + shift) % LENGTH
    out = x[:, 0].gather(1, idx)
    out = out * torch.empty(b, 1).uniform_(0.6, 1.5)
    out = out + torch.randn(b, 1) * 0.4 * (torch.arange(LENGTH) / LENGTH - 0.5)
    return (out + 0.07 * torch.randn_like(out))[:, None]


def mlp(i, h, o):
    return nn.Sequential(nn.Linear(i, h), nn.BatchNorm1d(h), nn.ReLU(), nn.Linear(h, o))


class Net(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv1d(1, 24, 7, padding=3), nn.BatchNorm1d(24), nn.ReLU(), nn.MaxPool1d(2),
            nn.Conv1d(24, 48, 9, padding=4), nn.BatchNorm1d(48), nn.ReLU(),
            nn.Conv1d(48, dim, 9, padding=4), nn.BatchNorm1d(dim), nn.ReLU(),
            nn.AdaptiveMaxPool1d(1), nn.Flatten(),
        )
        self.projector = mlp(dim, 64, 32)

    def forward(self, x):
        return self.projector(self.encoder(x))


def regression_loss(p, z):
    return 2 - 2 * F.cosine_similarity(p, z, dim=-1).mean()


def probe(encoder, data, test):
    was_training = encoder.training
    encoder.eval()
    with torch.no_grad():
        f, ft = encoder(data[0]), encoder(test[0])
    encoder.train(was_training)
    m, s = f.mean(0), f.std(0) + 1e-5
    f, ft = (f - m) / s, (ft - m) / s
    head = nn.Linear(f.shape[1], N_CLASSES)
    nn.init.zeros_(head.weight)
    opt = torch.optim.SGD(head.parameters(), lr=0.5, weight_decay=1e-3)
    for _ in range(200):
        loss = F.cross_entropy(head(f), data[1])
        opt.zero_grad()
        loss.backward()
        opt.step()
    return (head(ft).argmax(1) == test[1]).float().mean().item()


def main():
    torch.manual_seed(0)
    x, _ = spectra(1280, 0)
    labelled, test = spectra(200, 1), spectra(800, 2)
    online, predictor = Net(), mlp(32, 64, 32)
    target = copy.deepcopy(online)
    for p in target.parameters():
        p.requires_grad = False
    opt = torch.optim.AdamW([*online.parameters(), *predictor.parameters()], lr=2e-3, weight_decay=1e-4)
    epochs, batch = 8, 128
    total, step = epochs * len(x) // batch, 0
    print(f"probe on the random encoder {probe(online.encoder, labelled, test):.3f}")
    for epoch in range(1, epochs + 1):
        run, spread = 0.0, 0.0
        for idx in torch.randperm(len(x)).split(batch):
            a, b = view(x[idx]), view(x[idx])
            pa, pb = predictor(online(a)), predictor(online(b))
            with torch.no_grad():
                za, zb = target(a), target(b)
            loss = 0.5 * (regression_loss(pa, zb) + regression_loss(pb, za))
            opt.zero_grad()
            loss.backward()
            opt.step()
            tau = 1 - 0.02 * (math.cos(math.pi * step / total) + 1) / 2
            with torch.no_grad():
                for pt, po in zip(target.parameters(), online.parameters()):
                    pt.mul_(tau).add_(po, alpha=1 - tau)
            step += 1
            run += loss.item()
            spread += F.normalize(za, dim=1).std(0).mean().item()
        n = len(x) // batch
        if epoch % 2 == 0:
            print(f"epoch {epoch:2d}  loss {run / n:.4f}  target std {spread / n:.3f}  probe {probe(online.encoder, labelled, test):.3f}")


if __name__ == "__main__":
    main()
