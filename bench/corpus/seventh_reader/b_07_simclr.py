"""SimCLR-style pretraining on small pictures, then a linear probe."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F

N_CLASSES = 5


def make_images(n, seed):
    """Textures: class = orientation of a grating; colour, phase, contrast are free."""
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:20, 0:20]
    y = rng.integers(0, N_CLASSES, n)
    x = np.zeros((n, 3, 20, 20), np.float32)
    for k in range(n):
        th = np.pi * y[k] / N_CLASSES + rng.normal(0, 0.08)
        wave = np.sin((xx * np.cos(th) + yy * np.sin(th)) * rng.uniform(0.9, 1.4) + rng.uniform(0, 6.28))
        colour = rng.uniform(-1, 1, 3)
        base = rng.uniform(-1.5, 1.5, 3)
        x[k] = base[:, None, None] + colour[:, None, None] * wave + rng.normal(0, 0.25, (3, 20, 20))
    return torch.from_numpy(x), torch.from_numpy(y)


def augment(x, seed):
    """Random crop (by shifting), colour jitter and noise; reproducible through the seed."""
    g = torch.Generator().manual_seed(seed)
    b = x.shape[0]
    padded = F.pad(x, (4, 4, 4, 4), mode="reflect")
    dy, dx = torch.randint(0, 9, (2, b), generator=g)
    rows = dy[:, None] + torch.arange(20)
    cols = dx[:, None] + torch.arange(20)
    bi = torch.arange(b)[:, None, None]
    out = padded.permute(0, 2, 3, 1)[bi, rows[:, :, None], cols[:, None, :]].permute(0, 3, 1, 2)
    gain = torch.empty(b, 3, 1, 1).uniform_(0.6, 1.4, generator=g)
    shift = torch.empty(b, 3, 1, 1).uniform_(-1.0, 1.0, generator=g)
    noise = torch.randn(out.shape, generator=g) * 0.2
    return out * gain + shift + noise


class Encoder(nn.Module):
    def __init__(self, dim=64):
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(3, 24, 5, stride=2, padding=2), nn.BatchNorm2d(24), nn.ReLU(),
            nn.Conv2d(24, 48, 3, stride=2, padding=1), nn.BatchNorm2d(48), nn.ReLU(),
            nn.Conv2d(48, dim, 3, padding=1), nn.BatchNorm2d(dim), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        )
        self.projector = nn.Sequential(nn.Linear(dim, 64), nn.BatchNorm1d(64), nn.ReLU(), nn.Linear(64, 32))

    def forward(self, x):
        return F.normalize(self.projector(self.conv(x)), dim=1)


def nt_xent(z1, z2, temperature=0.2):
    z = torch.cat([z1, z2])
    sim = z @ z.T / temperature
    sim = sim.masked_fill(torch.eye(len(z), dtype=torch.bool), -1e9)
    n = len(z1)
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(sim, target)


def linear_probe(encoder, x, y, xt, yt, steps=150):
    encoder.eval()
    with torch.no_grad():
        f, ft = encoder.conv(x), encoder.conv(xt)
    mean, std = f.mean(0), f.std(0) + 1e-5
    f, ft = (f - mean) / std, (ft - mean) / std
    clf = nn.Linear(f.shape[1], N_CLASSES)
    opt = torch.optim.Adam(clf.parameters(), lr=0.02, weight_decay=1e-3)
    for _ in range(steps):
        loss = F.cross_entropy(clf(f), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
    return (clf(ft).argmax(1) == yt).float().mean().item()


def main():
    torch.manual_seed(0)
    unlabeled, _ = make_images(1024, 0)
    few, few_y = make_images(100, 1)
    test, test_y = make_images(600, 2)
    model = Encoder()
    opt = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
    print(f"probe before pretraining: {linear_probe(model, few, few_y, test, test_y):.3f}")
    step, batch = 0, 128
    for epoch in range(1, 13):
        model.train()
        total = 0.0
        chunks = torch.randperm(len(unlabeled)).split(batch)
        for idx in chunks:
            x = unlabeled[idx]
            v1 = augment(x, seed=step)
            v2 = augment(x, seed=step)
            loss = nt_xent(model(v1), model(v2))
            opt.zero_grad()
            loss.backward()
            opt.step()
            total += loss.item()
            step += 1
        if epoch % 3 == 0:
            acc = linear_probe(model, few, few_y, test, test_y)
            print(f"epoch {epoch:2d}  nt-xent {total / len(chunks):.4f}  linear probe {acc:.3f}")


if __name__ == "__main__":
    main()
