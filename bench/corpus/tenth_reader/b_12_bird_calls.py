"""Classify synthetic bird calls. Training clips come from the field recorder, test clips from the archive."""
import math
import random

import torch
from torch import nn

CALLS = {"up": (900, 1500), "down": (1500, 900), "flat_low": (700, 700), "flat_high": (1400, 1400), "steep": (600, 2200)}
NAMES = list(CALLS)


def load_clip(kind, sr, rng, seconds=0.5):
    """stands in for torchaudio.load: returns (waveform, sample_rate)"""
    f0, f1 = CALLS[kind]
    f0, f1 = f0 * rng.uniform(0.93, 1.07), f1 * rng.uniform(0.93, 1.07)
    n = int(sr * seconds)
    t = torch.arange(n) / sr
    freq = f0 + (f1 - f0) * t / seconds
    phase = 2 * math.pi * torch.cumsum(freq, 0) / sr
    env = torch.hann_window(n, periodic=False)
    return env * torch.sin(phase + rng.uniform(0, 6)) + 0.15 * torch.randn(n), sr


class LogSpec(nn.Module):
    def __init__(self, n_fft=256, hop=128):
        super().__init__()
        self.n_fft, self.hop = n_fft, hop
        self.register_buffer("win", torch.hann_window(n_fft))

    def forward(self, w):
        s = torch.stft(w, self.n_fft, self.hop, window=self.win, return_complex=True).abs()
        s = torch.log1p(s[:, :96])
        return (s - s.mean((1, 2), keepdim=True)) / (s.std((1, 2), keepdim=True) + 1e-5)


class CallNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.spec = LogSpec()
        self.conv = nn.Sequential(nn.Conv1d(96, 48, 5, padding=2), nn.ReLU(), nn.Conv1d(48, 48, 5, padding=2), nn.ReLU())
        self.att = nn.Conv1d(48, 1, 1)
        self.fc = nn.Linear(48, len(NAMES))

    def forward(self, w):
        h = self.conv(self.spec(w))
        a = self.att(h).softmax(-1)
        return self.fc((h * a).sum(-1))


def main():
    torch.manual_seed(3)
    rng = random.Random(3)
    train, test = [], []
    for _ in range(500):
        kind = rng.choice(NAMES)
        wave, sr = load_clip(kind, 8000, rng)
        train.append((wave, NAMES.index(kind)))
    for _ in range(200):
        kind = rng.choice(NAMES)
        wave, sr = load_clip(kind, 16000, rng)
        test.append((wave, NAMES.index(kind)))

    net = CallNet()
    opt = torch.optim.AdamW(net.parameters(), lr=1e-3)
    for epoch in range(8):
        rng.shuffle(train)
        tot = 0
        for i in range(0, len(train), 20):
            w = torch.stack([a for a, _ in train[i:i + 20]])
            y = torch.tensor([b for _, b in train[i:i + 20]])
            loss = nn.functional.cross_entropy(net(w), y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            tot += loss.item()
        print(f"epoch {epoch}: {tot / 25:.3f}")
    net.eval()
    with torch.no_grad():
        pred = net(torch.stack([a for a, _ in test])).argmax(-1)
    y = torch.tensor([b for _, b in test])
    print(f"archive accuracy {(pred == y).float().mean().item():.3f}")


main()
