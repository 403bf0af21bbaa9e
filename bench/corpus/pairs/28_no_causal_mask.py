"""there is no causal mask, so the model reads the answer."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import stories

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

text = "\n".join(stories(600, seed=5))
letters = sorted(set(text))
ids = torch.tensor([letters.index(c) for c in text])
V, D, T = len(letters), 64, 48


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(D, D) for _ in range(4))

    def forward(self, x):
        B, n, _ = x.shape
        q, k, v = (f(x).view(B, n, 4, D // 4).transpose(1, 2) for f in (self.q, self.k, self.v))
        scores = q @ k.transpose(2, 3) / (D // 4) ** 0.5
        if not BROKEN:
            scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), float("-inf"))
        return self.o((scores.softmax(-1) @ v).transpose(1, 2).reshape(B, n, D))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention, self.mlp = Attention(), nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))
        self.a, self.b = nn.LayerNorm(D), nn.LayerNorm(D)

    def forward(self, x):
        x = x + self.attention(self.a(x))
        return x + self.mlp(self.b(x))


class LanguageModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.letters, self.places = nn.Embedding(V, D), nn.Embedding(T, D)
        self.layers = nn.Sequential(Layer(), Layer())
        self.out = nn.Linear(D, V)

    def forward(self, x):
        return self.out(self.layers(self.letters(x) + self.places(torch.arange(x.shape[1]))))


model = LanguageModel()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for step in range(60):
    starts = torch.randint(len(ids) - T, (48,))
    window = torch.stack([ids[i:i + T] for i in starts])
    loss = F.cross_entropy(model(window[:, :-1]).reshape(-1, V), window[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0 or step == 59:
        print(f"step {step} loss {loss.item():.3f}")
