"""Minimal GPT with tied embeddings, warmup + cosine schedule, evaluated on train and val."""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
random.seed(0)
SUBJ = ["the cat", "a dog", "my sister", "the old man", "our teacher", "a small bird"]
VERB = ["sees", "likes", "finds", "hears", "follows"]
OBJ = ["the house", "a red ball", "some water", "the garden", "an apple", "the moon"]
text = "".join(f"{random.choice(SUBJ)} {random.choice(VERB)} {random.choice(OBJ)}.\n" for _ in range(2000))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
ids = torch.tensor([stoi[c] for c in text])
split = int(0.9 * len(ids))
DATA = {"train": ids[:split], "val": ids[split:]}
T, B, D, H, L = 48, 16, 64, 4, 2


def batch(name):
    d = DATA[name]
    i = torch.randint(len(d) - T - 1, (B,))
    w = torch.stack([d[k:k + T + 1] for k in i])
    return w[:, :-1], w[:, 1:]


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.proj = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = (z.view(b, t, H, D // H).transpose(1, 2) for z in self.qkv(self.ln1(x)).chunk(3, -1))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(a.transpose(1, 2).reshape(b, t, D))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab, D), nn.Embedding(T, D)
        self.h = nn.Sequential(*[Block() for _ in range(L)])
        self.ln_f = nn.LayerNorm(D)
        self.head = nn.Linear(D, vocab, bias=False)
        self.apply(self._init)
        self.head.weight = self.wte.weight

    def _init(self, m):
        if isinstance(m, (nn.Linear, nn.Embedding)):
            nn.init.normal_(m.weight, std=0.02)

    def forward(self, x):
        return self.head(self.ln_f(self.h(self.wte(x) + self.wpe.weight[:x.size(1)])))


model = GPT(len(chars))
decay = [p for p in model.parameters() if p.dim() >= 2]
rest = [p for p in model.parameters() if p.dim() < 2]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}],
                        lr=3e-3, betas=(0.9, 0.95))
STEPS, WARM = 250, 25
sched = torch.optim.lr_scheduler.LambdaLR(
    opt, lambda s: (s + 1) / WARM if s < WARM else 0.1 + 0.45 * (1 + math.cos(math.pi * (s - WARM) / (STEPS - WARM))))


@torch.no_grad()
def estimate():
    model.eval()
    r = {}
    for name in DATA:
        ls = []
        for _ in range(5):
            x, y = batch(name)
            ls.append(F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item())
        r[name] = sum(ls) / len(ls)
    model.train()
    return r


for step in range(STEPS + 1):
    if step % 50 == 0:
        e = estimate()
        print(f"step {step}: train {e['train']:.3f} val {e['val']:.3f} lr {sched.get_last_lr()[0]:.2e}")
    x, y = batch("train")
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    opt.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    sched.step()

model.eval()
x = torch.tensor([[stoi["\n"]]])
with torch.no_grad():
    for _ in range(120):
        p = F.softmax(model(x[:, -T:])[:, -1] / 0.8, -1)
        x = torch.cat([x, torch.multinomial(p, 1)], 1)
print("".join(chars[i] for i in x[0].tolist()))
