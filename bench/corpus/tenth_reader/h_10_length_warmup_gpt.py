"""Sequence-length warm-up: short windows first, then longer ones with fewer rows (tokens per step stay the same)."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(2)
rng = random.Random(2)
tags = ["b", "i", "p", "ul", "li", "td"]


def html(n):
    out = []
    while len(out) < n:
        depth = rng.randint(1, 4)
        stack = [rng.choice(tags) for _ in range(depth)]
        out += [f"<{t}>" for t in stack]
        out += [rng.choice(["one", "two", "six"]) for _ in range(rng.randint(1, 3))]
        out += [f"</{t}>" for t in reversed(stack)]
    return out


tokens = html(16000)
itos = sorted(set(tokens))
ids = torch.tensor([itos.index(t) for t in tokens])
train, test = ids[:14000], ids[14000:]
MAXLEN, TOKENS = 64, 768


def rotary(x):
    n, d = x.shape[-2:]
    ang = torch.arange(n).unsqueeze(1) * 10000 ** (-torch.arange(0, d, 2) / d)
    a, b = x[..., 0::2], x[..., 1::2]
    return torch.stack([a * ang.cos() - b * ang.sin(), a * ang.sin() + b * ang.cos()], -1).flatten(-2)


class Block(nn.Module):
    def __init__(self, d=64, h=4):
        super().__init__()
        self.h, self.n1, self.n2 = h, nn.RMSNorm(d), nn.RMSNorm(d)
        self.qkv, self.o = nn.Linear(d, 3 * d, bias=False), nn.Linear(d, d, bias=False)
        self.up, self.gate, self.down = (nn.Linear(d, 2 * d, bias=False), nn.Linear(d, 2 * d, bias=False),
                                         nn.Linear(2 * d, d, bias=False))

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = (z.view(B, T, self.h, -1).transpose(1, 2) for z in self.qkv(self.n1(x)).chunk(3, -1))
        y = F.scaled_dot_product_attention(rotary(q), rotary(k), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(B, T, D))
        z = self.n2(x)
        return x + self.down(F.silu(self.gate(z)) * self.up(z))


class LM(nn.Module):
    def __init__(self, v, d=64):
        super().__init__()
        self.emb = nn.Embedding(v, d)
        self.blocks = nn.Sequential(Block(), Block())
        self.norm, self.head = nn.RMSNorm(d), nn.Linear(d, v, bias=False)

    def forward(self, x):
        return self.head(self.norm(self.blocks(self.emb(x))))


def loss_on(model, src, length, rows):
    i = torch.randint(len(src) - length - 1, (rows,))
    w = torch.stack([src[j:j + length + 1] for j in i])
    return F.cross_entropy(model(w[:, :-1]).flatten(0, 1), w[:, 1:].flatten())


model = LM(len(itos))
decay = [p for p in model.parameters() if p.dim() > 1]
other = [p for p in model.parameters() if p.dim() <= 1]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": other, "weight_decay": 0.0}], lr=3e-3)
STEPS = 260
for step in range(STEPS):
    length = min(MAXLEN, 8 * (1 + step // 15))
    for g in opt.param_groups:
        g["lr"] = 3e-3 * min(1, (step + 1) / 20) * (1 - step / STEPS)
    loss = loss_on(model, train, length, TOKENS // length)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 50 == 0:
        print(f"step {step} length {length} rows {TOKENS // length} loss {loss.item():.3f}")
model.eval()
with torch.no_grad():
    print(f"test loss at length {MAXLEN}: {loss_on(model, test, MAXLEN, 40).item():.3f}")
    w = test[:len(test) // 65 * 65].view(-1, 65)
    closing = torch.tensor([t.startswith("</") for t in itos])[w[:, 33:]]
    print(f"closing tags right: {(model(w[:, :-1]).argmax(-1)[:, 32:] == w[:, 33:])[closing].float().mean().item():.3f}")
