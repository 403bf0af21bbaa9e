"""A small character GPT on generated bedtime sentences; at the end we sample and check the spelling."""
import math
import random
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F


@dataclass
class Config:
    block: int = 48
    dim: int = 64
    heads: int = 4
    layers: int = 2
    batch: int = 24
    steps: int = 400
    lr: float = 3e-3


cfg = Config()
torch.manual_seed(1)
rng = random.Random(1)

who = ["owl", "fox", "bear", "mouse", "rabbit", "hedgehog"]
verb = ["found", "carried", "painted", "dropped", "watched"]
what = ["lantern", "acorn", "blanket", "river", "moon", "teacup"]
when = ["tonight", "at dawn", "after supper", "in winter"]


def sentence():
    return f"the {rng.choice(who)} {rng.choice(verb)} a {rng.choice(what)} {rng.choice(when)}. "


text = "".join(sentence() for _ in range(2500))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
cut = int(0.9 * len(data))
train, val = data[:cut], data[cut:]


def get_batch(src):
    ix = torch.randint(len(src) - cfg.block - 1, (cfg.batch,))
    return (torch.stack([src[i:i + cfg.block] for i in ix]),
            torch.stack([src[i + 1:i + cfg.block + 1] for i in ix]))


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(cfg.dim), nn.LayerNorm(cfg.dim)
        self.qkv = nn.Linear(cfg.dim, 3 * cfg.dim)
        self.proj = nn.Linear(cfg.dim, cfg.dim)
        self.mlp = nn.Sequential(nn.Linear(cfg.dim, 4 * cfg.dim), nn.GELU(), nn.Linear(4 * cfg.dim, cfg.dim))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, T, 3, cfg.heads, C // cfg.heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(len(chars), cfg.dim)
        self.pos = nn.Embedding(cfg.block, cfg.dim)
        self.blocks = nn.Sequential(*[Block() for _ in range(cfg.layers)])
        self.ln = nn.LayerNorm(cfg.dim)
        self.head = nn.Linear(cfg.dim, len(chars), bias=False)

    def forward(self, idx):
        x = self.tok(idx) + self.pos(torch.arange(idx.shape[1]))
        return self.head(self.ln(self.blocks(x)))

    @torch.no_grad()
    def generate(self, idx, n):
        for _ in range(n):
            ctx = idx[:, :cfg.block]
            probs = F.softmax(self(ctx)[:, -1] / 0.8, dim=-1)
            idx = torch.cat([idx, torch.multinomial(probs, 1)], dim=1)
        return idx


model = GPT()
opt = torch.optim.AdamW(model.parameters(), lr=cfg.lr, weight_decay=0.05)
for step in range(cfg.steps):
    for g in opt.param_groups:
        g["lr"] = cfg.lr * min(1, (step + 1) / 30) * (0.55 + 0.45 * math.cos(math.pi * step / cfg.steps))
    x, y = get_batch(train)
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 100 == 0:
        model.eval()
        vx, vy = get_batch(val)
        with torch.no_grad():
            print(step, f"train {loss.item():.3f} val {F.cross_entropy(model(vx).flatten(0, 1), vy.flatten()).item():.3f}")
        model.train()

model.eval()
prompt = torch.tensor([[stoi[c] for c in f"the {w[:3]}"] for w in who])
known = set(text.replace(".", " ").split())
good = total = 0
for row in model.generate(prompt, 120).tolist():
    s = "".join(chars[i] for i in row)
    words = s.replace(".", " ").split()[:-1]
    good += sum(len(w) for w in words if w in known)
    total += len(s.replace(".", "").replace(" ", ""))
    print(repr(s[:100]))
print(f"correctly spelled share of generated text: {good / total:.3f}")
