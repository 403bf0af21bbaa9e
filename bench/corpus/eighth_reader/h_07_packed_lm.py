"""Packs several short documents into each row: block-diagonal causal mask, positions restart per document."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
random.seed(0)
V, T, D, H, BOS = 40, 64, 64, 4, 0


def document():
    """Arithmetic progressions modulo V-1; the step is only knowable inside the document."""
    a, s = random.randrange(V - 1), random.randint(1, 6)
    return [BOS] + [1 + (a + s * i) % (V - 1) for i in range(random.randint(8, 24))]


def pack(docs):
    rows, cur = [], []
    for d in docs:
        if sum(len(c) for c in cur) + len(d) > T:
            rows.append(cur)
            cur = []
        cur.append(d)
    ids = torch.zeros(len(rows), T, dtype=torch.long)
    seg = torch.full((len(rows), T), -1)
    pos = torch.zeros(len(rows), T, dtype=torch.long)
    labels = torch.full((len(rows), T), -100)
    for r, row in enumerate(rows):
        k = 0
        for j, d in enumerate(row):
            n = len(d)
            ids[r, k:k + n] = torch.tensor(d)
            labels[r, k:k + n - 1] = torch.tensor(d[1:])
            seg[r, k:k + n] = j
            pos[r, k:k + n] = torch.arange(n)
            k += n
    return ids, seg, pos, labels


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.o = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.ff = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, x, mask):
        b, t, _ = x.shape
        q, k, v = (z.view(b, t, H, -1).transpose(1, 2) for z in self.qkv(self.n1(x)).chunk(3, -1))
        x = x + self.o(F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).reshape(b, t, D))
        return x + self.ff(self.n2(x))


class PackedLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, D), nn.Embedding(32, D)
        self.layers = nn.ModuleList([Layer() for _ in range(2)])
        self.norm, self.out = nn.LayerNorm(D), nn.Linear(D, V)

    def forward(self, ids, seg, pos):
        causal = torch.ones(T, T, dtype=torch.bool).tril()
        mask = (causal & (seg[:, :, None] == seg[:, None, :]))[:, None]
        x = self.tok(ids) + self.pos(pos)
        for layer in self.layers:
            x = layer(x, mask)
        return self.out(self.norm(x))


train = pack([document() for _ in range(3500)])
val = pack([document() for _ in range(300)])
model = PackedLM()
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=6 * (len(train[0]) // 16))
for epoch in range(6):
    model.train()
    perm = torch.randperm(len(train[0]))
    tot = n = 0
    for i in range(0, len(perm) - 15, 16):
        ids, seg, pos, lab = (z[perm[i:i + 16]] for z in train)
        loss = F.cross_entropy(model(ids, seg, pos).flatten(0, 1), lab.flatten(), ignore_index=-100)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        tot, n = tot + loss.item(), n + 1
    model.eval()
    with torch.no_grad():
        ids, seg, pos, lab = val
        logits = model(ids, seg, pos)
        vl = F.cross_entropy(logits.flatten(0, 1), lab.flatten(), ignore_index=-100)
        known = (lab != -100) & (pos >= 2)
        acc = (logits.argmax(-1) == lab)[known].float().mean()
    print(f"epoch {epoch + 1}: train {tot / n:.3f} val {vl:.3f} acc after two numbers {acc:.3f}")
