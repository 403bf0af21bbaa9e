"""A toy CLIP: images of coloured shapes and their captions in one embedding space."""
import random

import torch
from torch import nn
from torch.nn import functional as F

SHAPES = ["square", "cross", "bar", "frame"]
COLOURS = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "white": (1, 1, 1)}
PLACES = ["top", "bottom", "left", "right"]
WORDS = ["a", "at", "the"] + SHAPES + list(COLOURS) + PLACES
IDX = {w: i for i, w in enumerate(WORDS)}


def render(shape, colour, place):
    im = torch.rand(3, 16, 16) * 0.25
    r, c = {"top": (1, 5), "bottom": (10, 5), "left": (5, 1), "right": (5, 10)}[place]
    m = torch.zeros(16, 16)
    if shape == "square":
        m[r:r + 5, c:c + 5] = 1
    elif shape == "cross":
        m[r + 2, c:c + 5] = 1
        m[r:r + 5, c + 2] = 1
    elif shape == "bar":
        m[r + 1:r + 4, c:c + 5] = 1
    else:
        m[r:r + 5, c:c + 5] = 1
        m[r + 1:r + 4, c + 1:c + 4] = 0
    return torch.where(m.bool(), torch.tensor(COLOURS[colour]).view(3, 1, 1) * 0.9, im)


class CLIP(nn.Module):
    def __init__(self, dim=48, temperature=0.07):
        super().__init__()
        self.vision = nn.Sequential(nn.Conv2d(3, 24, 3, stride=2, padding=1), nn.GELU(), nn.Conv2d(24, 48, 3, stride=2, padding=1),
                                    nn.GELU(), nn.Flatten(), nn.Linear(48 * 16, dim))
        self.words = nn.Embedding(len(WORDS), dim)
        self.text = nn.GRU(dim, dim, batch_first=True)
        self.temperature = temperature

    def encode_image(self, x):
        return F.normalize(self.vision(x), dim=-1)

    def encode_text(self, ids):
        return F.normalize(self.text(self.words(ids))[1][0], dim=-1)

    def forward(self, images, ids):
        a, b = self.encode_image(images), self.encode_text(ids)
        logits = a @ b.t() * self.temperature
        target = torch.arange(len(a))
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


def caption(s, c, p):
    return [IDX[w] for w in f"a {c} {s} at the {p}".split()]


random.seed(0)
torch.manual_seed(0)
combos = [(s, c, p) for s in SHAPES for c in COLOURS for p in PLACES]
model = CLIP()
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
for step in range(160):
    chosen = random.sample(combos, 32)
    images = torch.stack([render(*k) for k in chosen])
    ids = torch.tensor([caption(*k) for k in chosen])
    loss = model(images, ids)
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(step, round(loss.item(), 4))

model.eval()
with torch.no_grad():
    T = model.encode_text(torch.tensor([caption(*k) for k in combos]))
    hits = [(model.encode_image(torch.stack([render(*k) for k in combos])) @ T.t()).argmax(1).eq(torch.arange(len(combos)))
            for _ in range(3)]
print(f"fresh images, caption found at rank 1 of {len(combos)}: {torch.cat(hits).float().mean().item():.3f}")
