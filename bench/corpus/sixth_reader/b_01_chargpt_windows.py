"""Character level GPT on a log of short delivery notes.

    python b_01_chargpt_windows.py
"""
import math
import random
import time
from dataclasses import dataclass

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset, random_split

torch.manual_seed(1337)
rng = random.Random(1337)

block_size = 48
stride = 6
batch_size = 32
epochs = 12
lr = 3e-3


def make_corpus(n_lines):
    first = ["anna", "piotr", "mehmet", "lucia", "john", "ines", "kofi", "yuki", "olga", "sam"]
    verb = ["sent", "took", "lost", "found", "sold", "returned"]
    item = ["boxes", "crates", "letters", "keys", "lamps", "bottles"]
    town = ["lyon", "gdansk", "porto", "accra", "osaka", "turin", "bern"]
    lines = []
    for _ in range(n_lines):
        code = "".join(rng.choice("abcdefghjkmnpqrstuvwxyz") for _ in range(5))
        lines.append(f"{rng.choice(first)} {rng.choice(verb)} {rng.randint(10, 999)} {rng.choice(item)} "
                     f"in {rng.choice(town)} ref {code}.")
    return "\n".join(lines) + "\n"


class WindowDataset(Dataset):
    def __init__(self, ids, block, step):
        self.ids, self.block = ids, block
        self.starts = list(range(0, len(ids) - block - 1, step))

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, i):
        s = self.starts[i]
        chunk = self.ids[s:s + self.block + 1]
        return chunk[:-1], chunk[1:]


@dataclass
class GPTConfig:
    vocab_size: int
    block_size: int = 48
    n_layer: int = 2
    n_head: int = 4
    n_embd: int = 80


class Block(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.n_head = cfg.n_head
        self.ln1, self.ln2 = nn.LayerNorm(cfg.n_embd), nn.LayerNorm(cfg.n_embd)
        self.qkv = nn.Linear(cfg.n_embd, 3 * cfg.n_embd)
        self.proj = nn.Linear(cfg.n_embd, cfg.n_embd)
        self.mlp = nn.Sequential(nn.Linear(cfg.n_embd, 4 * cfg.n_embd), nn.GELU(), nn.Linear(4 * cfg.n_embd, cfg.n_embd))

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(self.ln1(x)).split(C, dim=2)
        q, k, v = (t.view(B, T, self.n_head, C // self.n_head).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.transpose(1, 2).reshape(B, T, C))
        return x + self.mlp(self.ln2(x))


class GPT(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.wte = nn.Embedding(cfg.vocab_size, cfg.n_embd)
        self.wpe = nn.Embedding(cfg.block_size, cfg.n_embd)
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg.n_layer))
        self.ln_f = nn.LayerNorm(cfg.n_embd)
        self.head = nn.Linear(cfg.n_embd, cfg.vocab_size, bias=False)
        nn.init.normal_(self.wte.weight, std=0.02)
        nn.init.normal_(self.wpe.weight, std=0.02)
        self.head.weight = self.wte.weight

    def forward(self, idx, targets=None):
        x = self.wte(idx) + self.wpe(torch.arange(idx.size(1), device=idx.device))
        for b in self.blocks:
            x = b(x)
        logits = self.head(self.ln_f(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))
        return logits, loss


@torch.no_grad()
def estimate_loss(model, loader):
    model.eval()
    losses = [model(x, y)[1].item() for x, y in loader]
    model.train()
    return sum(losses) / len(losses)


text = make_corpus(110)
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
full = WindowDataset(data, block_size, stride)
n_val = len(full) // 10
train_set, val_set = random_split(full, [len(full) - n_val, n_val])
train_loader = DataLoader(train_set, batch_size=batch_size, shuffle=True, drop_last=True)
val_loader = DataLoader(val_set, batch_size=batch_size)
print(f"{len(text)} chars, vocab {len(chars)}, {len(train_set)} train / {len(val_set)} val windows")

model = GPT(GPTConfig(vocab_size=len(chars), block_size=block_size))
opt = torch.optim.AdamW(model.parameters(), lr=lr, weight_decay=0.01)
total = epochs * len(train_loader)
sched = torch.optim.lr_scheduler.LambdaLR(
    opt, lambda s: min(1, (s + 1) / 20) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * min(1, s / total)))))
t0 = time.time()
for epoch in range(epochs):
    tot = 0.0
    for x, y in train_loader:
        _, loss = model(x, y)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        tot += loss.item()
    if epoch % 2 == 1 or epoch == epochs - 1:
        print(f"epoch {epoch:2d} train {tot / len(train_loader):.3f} val {estimate_loss(model, val_loader):.3f} ({time.time() - t0:.1f}s)")

print(f"final val loss {estimate_loss(model, val_loader):.4f}, perplexity {math.exp(estimate_loss(model, val_loader)):.2f}")
