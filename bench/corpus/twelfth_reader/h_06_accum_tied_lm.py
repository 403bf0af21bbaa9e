"""Hand-written decoder with tied embeddings, gradient accumulation and a cosine schedule."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
V, T = 24, 24

def batch(n):
    """Arithmetic progressions modulo V: the step has to be read off the first two symbols."""
    a, d = torch.randint(0, V, (n, 1)), torch.randint(1, 8, (n, 1))
    return (a + d * torch.arange(T + 1)) % V

class Block(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.h = h
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.out = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.ff = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x):
        B, L, D = x.shape
        q, k, v = self.qkv(self.ln1(x)).view(B, L, 3, self.h, D // self.h).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(a.transpose(1, 2).reshape(B, L, D))
        return x + self.ff(self.ln2(x))

class LM(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, d), nn.Embedding(T, d)
        nn.init.normal_(self.tok.weight, std=0.05)
        self.blocks = nn.Sequential(Block(d, 4), Block(d, 4))
        self.ln = nn.LayerNorm(d)
        self.head = nn.Linear(d, V, bias=False)
        self.head.weight = self.tok.weight

    def forward(self, x):
        h = self.tok(x) + self.pos(torch.arange(x.size(1)))
        return self.head(self.ln(self.blocks(h)))

model = LM()
decay = [p for p in model.parameters() if p.dim() > 1]
rest = [p for p in model.parameters() if p.dim() <= 1]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.05}, {"params": rest, "weight_decay": 0.0}], lr=3e-3)
steps, accum, warm = 250, 4, 20
sched = torch.optim.lr_scheduler.LambdaLR(
    opt, lambda s: (s + 1) / warm if s < warm else 0.5 * (1 + math.cos(math.pi * (s - warm) / (steps - warm))))
val = batch(400)

for step in range(steps):
    for _ in range(accum):
        b = batch(16)
        loss = F.cross_entropy(model(b[:, :-1]).reshape(-1, V), b[:, 1:].reshape(-1))
        (loss / accum).backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    opt.zero_grad(set_to_none=True)
    sched.step()
    if step % 50 == 49:
        with torch.no_grad():
            acc = (model(val[:, :-1]).argmax(-1) == val[:, 1:])[:, 1:].float().mean().item()
        print(f"step {step + 1} loss {loss.item():.3f} val next-token acc {acc:.3f}")
