"""GRU encoder-decoder with attention; the decoder is fed its own words more and more often (scheduled sampling)."""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(9)
torch.manual_seed(9)
PAD, BOS, EOS = 0, 1, 2
MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
chars = sorted(set("".join(MONTHS) + "0123456789 -"))
stoi = {c: i + 3 for i, c in enumerate(chars)}
V = len(chars) + 3


def pair(held_out=False):
    while True:
        d, m, y = random.randint(1, 28), random.randrange(12), random.randint(0, 99)
        if ((31 * d + 7 * m + y) % 6 == 0) == held_out:      # a sixth of the calendar is never trained on
            break
    return f"{d} {MONTHS[m]} {y:02d}", f"{y:02d}-{m + 1:02d}-{d:02d}"


def batch(pairs):
    src = [[stoi[c] for c in a] for a, _ in pairs]
    n = max(map(len, src))
    tgt = torch.tensor([[stoi[c] for c in b] + [EOS] for _, b in pairs])
    return torch.tensor([s + [PAD] * (n - len(s)) for s in src]), tgt


class Seq2Seq(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.emb = nn.Embedding(V, d, padding_idx=PAD)
        self.enc = nn.GRU(d, d, batch_first=True, bidirectional=True)
        self.bridge = nn.Linear(d, d)
        self.cell = nn.GRUCell(3 * d, d)
        self.query = nn.Linear(d, 2 * d)
        self.out = nn.Linear(3 * d, V)

    def forward(self, src, tgt=None, own=0.0, steps=9):
        lengths = (src != PAD).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(self.emb(src), lengths, batch_first=True, enforce_sorted=False)
        mem, h_n = self.enc(packed)
        mem, _ = nn.utils.rnn.pad_packed_sequence(mem, batch_first=True)
        mask = src[:, :mem.shape[1]] == PAD
        h = torch.tanh(self.bridge(h_n[1]))                 # last state of the backward direction: has read everything
        ctx = mem.new_zeros(len(src), mem.shape[2])
        word = torch.full((len(src),), BOS)
        logits = []
        for i in range(steps):
            h = self.cell(torch.cat([self.emb(word), ctx], 1), h)
            score = (mem @ self.query(h).unsqueeze(-1)).squeeze(-1).masked_fill(mask, -1e9)
            ctx = (score.softmax(-1).unsqueeze(1) @ mem).squeeze(1)
            o = self.out(torch.cat([h, ctx], 1))
            logits.append(o)
            guess = o.argmax(-1)                            # an index: no gradient goes through it
            if tgt is None:
                word = guess
            else:
                word = torch.where(torch.rand(len(src)) < own, guess, tgt[:, i])
        return torch.stack(logits, 1)


model = Seq2Seq()
opt = torch.optim.Adam(model.parameters(), lr=4e-3)
STEPS = 320
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, STEPS)
for step in range(STEPS):
    src, tgt = batch([pair() for _ in range(48)])
    own = 0.5 * max(0.0, 1 - 2 / (1 + math.exp(step / 80)))
    logits = model(src, tgt, own)
    loss = F.cross_entropy(logits.flatten(0, 1), tgt.flatten())
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    sched.step()
    if step % 60 == 0:
        print(f"{step} loss {loss.item():.3f} own words {own:.2f}")
model.eval()
with torch.no_grad():
    src, tgt = batch([pair(held_out=True) for _ in range(400)])
    exact = (model(src).argmax(-1) == tgt).all(1).float().mean().item()
print(f"free-running exact match on held-out dates {exact:.3f}")
