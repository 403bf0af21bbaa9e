"""A small GPT written by hand, trained with gradient accumulation and a warmup-linear schedule."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import get_linear_schedule_with_warmup

torch.manual_seed(11)
VOCAB, CTX, DIM = 40, 16, 64
ACCUM, MICRO, EPOCHS = 4, 16, 3


class Block(nn.Module):
    def __init__(self, d, heads):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.proj = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.mlp = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.h = heads

    def forward(self, x):
        B, T, D = x.shape
        q, k, v = (t.view(B, T, self.h, D // self.h).transpose(1, 2)
                   for t in self.qkv(self.n1(x)).chunk(3, dim=-1))
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(a.transpose(1, 2).reshape(B, T, D))
        return x + self.mlp(self.n2(x))


class GPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok, self.pos = nn.Embedding(VOCAB, DIM), nn.Embedding(CTX, DIM)
        self.blocks = nn.Sequential(Block(DIM, 4), Block(DIM, 4))
        self.norm, self.head = nn.LayerNorm(DIM), nn.Linear(DIM, VOCAB, bias=False)

    def forward(self, x):
        h = self.tok(x) + self.pos.weight[: x.shape[1]]
        return self.head(self.norm(self.blocks(h)))


g = torch.Generator().manual_seed(5)
table = torch.softmax(3.0 * torch.randn(VOCAB, VOCAB, generator=g), -1)
seqs = torch.zeros(3328, CTX + 1, dtype=torch.long)
seqs[:, 0] = torch.randint(0, VOCAB, (3328,), generator=g)
for t in range(CTX):
    seqs[:, t + 1] = torch.multinomial(table[seqs[:, t]], 1, generator=g).squeeze(1)
train, held = seqs[:3072], seqs[3072:]

model = GPT()
opt = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95), weight_decay=0.1)
micro_per_epoch = len(train) // MICRO
total_updates = EPOCHS * micro_per_epoch // ACCUM
sched = get_linear_schedule_with_warmup(opt, num_warmup_steps=total_updates // 10,
                                        num_training_steps=total_updates)

for epoch in range(EPOCHS):
    order, running = torch.randperm(len(train)), 0.0
    for i in range(micro_per_epoch):
        b = train[order[i * MICRO:(i + 1) * MICRO]]
        loss = F.cross_entropy(model(b[:, :-1]).reshape(-1, VOCAB), b[:, 1:].reshape(-1))
        (loss / ACCUM).backward()
        running += loss.item()
        if (i + 1) % ACCUM == 0:
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            opt.zero_grad(set_to_none=True)
        sched.step()
    print(f"epoch {epoch}: loss {running / micro_per_epoch:.3f}")

with torch.no_grad():
    nll = F.cross_entropy(model(held[:, :-1]).reshape(-1, VOCAB), held[:, 1:].reshape(-1)).item()
print(f"held-out perplexity {math.exp(nll):.2f}")
