"""Keyword spotting on synthetic audio: 1-D conv net with batch norm and dropout."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F


def synth(n, gen):
    """six 'keywords': two tones in a given order, inside noise and with a random loudness and the dc offset of an unsigned 8-bit recorder"""
    combos = [(5, 9), (9, 5), (5, 14), (14, 5), (9, 14), (14, 9)]
    y = torch.randint(0, 6, (n,), generator=gen)
    t = torch.arange(160) / 160
    x = torch.randn(n, 160, generator=gen) * 1.7
    for i in range(n):
        a, b = combos[y[i]]
        ph = torch.rand(2, generator=gen) * 2 * math.pi
        x[i, :80] += torch.sin(2 * math.pi * a * t[:80] * 2 + ph[0])
        x[i, 80:] += torch.sin(2 * math.pi * b * t[80:] * 2 + ph[1])
    gain = 10 + 30 * torch.rand(n, 1, generator=gen)
    return (x * gain + 128).unsqueeze(1), y


class KWS(nn.Module):
    def __init__(self):
        super().__init__()
        def block(i, o, k, s):
            return nn.Sequential(nn.Conv1d(i, o, k, s, k // 2), nn.BatchNorm1d(o), nn.ReLU())
        self.body = nn.Sequential(nn.BatchNorm1d(1), block(1, 24, 21, 2), block(24, 32, 9, 2), block(32, 32, 5, 2))
        self.drop = nn.Dropout(0.4)
        self.fc = nn.Linear(32 * 20, 6)

    def forward(self, x):
        return self.fc(self.drop(self.body(x).flatten(1)))


@torch.no_grad()
def validate(model, x, y):
    model.eval()
    logits = model(x)
    return F.cross_entropy(logits, y).item(), (logits.argmax(1) == y).float().mean().item()


def train():
    torch.manual_seed(30)
    g = torch.Generator().manual_seed(30)
    xtr, ytr = synth(700, g)
    xva, yva = synth(500, g)
    model = KWS()
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    model.train()
    print("sanity validation:", validate(model, xva, yva))
    for epoch in range(8):
        for idx in torch.randperm(len(xtr)).split(32):
            loss = F.cross_entropy(model(xtr[idx]), ytr[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
        vl, va = validate(model, xva, yva)
        print(f"epoch {epoch} train {loss.item():.3f} val {vl:.3f} acc {va:.3f}")
    print(f"METRIC val_acc {va:.3f}")


train()
