"""Encoder-decoder translation with nn.Transformer on a made-up language pair of varying length."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(14)
PAD, BOS, EOS, WORDS, MAXLEN = 0, 1, 2, 30, 8
V = WORDS + 3
gloss = torch.randperm(WORDS) + 3


def make(n):
    src = torch.full((n, MAXLEN + 1), PAD)
    tgt = torch.full((n, MAXLEN + 2), PAD)
    for i in range(n):
        k = int(torch.randint(3, MAXLEN + 1, (1,)))
        s = torch.randint(3, V, (k,))
        src[i, :k] = s
        tgt[i, 0], tgt[i, 1:k + 1], tgt[i, k + 1] = BOS, gloss[s - 3], EOS
    return src, tgt


class Translator(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.d = d
        self.src_emb, self.tgt_emb = nn.Embedding(V, d), nn.Embedding(V, d)
        self.pos = nn.Parameter(torch.randn(MAXLEN + 2, d))
        self.tr = nn.Transformer(d, 4, 1, 1, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.out = nn.Linear(d, V)

    def forward(self, src, tgt):
        src_mask = src != PAD
        causal = torch.triu(torch.ones(tgt.shape[1], tgt.shape[1], dtype=torch.bool), diagonal=1)
        s = self.src_emb(src) + self.pos[: src.shape[1]]
        t = self.tgt_emb(tgt) + self.pos[: tgt.shape[1]]
        h = self.tr(s, t, tgt_mask=causal, src_key_padding_mask=src_mask, memory_key_padding_mask=src_mask)
        return self.out(h)


src, tgt = make(1600)
hs, ht = make(150)
model = Translator()
opt = torch.optim.Adam(model.parameters(), lr=2e-3)
model.train()
for step in range(240):
    j = torch.randint(0, len(src), (48,))
    logits = model(src[j], tgt[j, :-1])
    loss = F.cross_entropy(logits.reshape(-1, V), tgt[j, 1:].reshape(-1), ignore_index=PAD)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 60 == 59:
        print(f"step {step + 1} loss {loss.item():.3f} ppl {math.exp(loss.item()):.2f}")

with torch.no_grad():
    y = torch.full((len(hs), 1), BOS)
    for _ in range(MAXLEN + 1):
        y = torch.cat([y, model(hs, y)[:, -1].argmax(-1, keepdim=True)], 1)
real = ht[:, 1:] != PAD
print(f"held-out token accuracy {((y[:, 1:] == ht[:, 1:]) & real).sum().item() / real.sum().item():.3f}")
