"""ELECTRA in miniature: a small generator fills masks, the discriminator says which tokens were replaced."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1)
random.seed(1)
V, T, MASK = 62, 20, 61
step_of = {k: random.choice([1, 2, 3, 5]) for k in range(6)}


def sentence():
    k = random.randrange(6)
    s = [k]
    while len(s) < T:
        s.append(6 + ((s[-1] if len(s) > 1 else 7 * k) - 6 + step_of[k]) % 55)
    return s


class Encoder(nn.Module):
    def __init__(self, emb, d):
        super().__init__()
        self.emb, self.pos = emb, nn.Parameter(torch.randn(T, d) * 0.02)
        self.proj = nn.Linear(emb.embedding_dim, d)
        layer = nn.TransformerEncoderLayer(d, 4, 2 * d, dropout=0.0, batch_first=True, norm_first=True)
        self.enc = nn.TransformerEncoder(layer, 2, nn.LayerNorm(d), enable_nested_tensor=False)

    def forward(self, x):
        return self.enc(self.proj(self.emb(x)) + self.pos)


emb = nn.Embedding(V, 48)                     # one table for both networks
gen, disc = Encoder(emb, 32), Encoder(emb, 64)
gen_head, disc_head = nn.Linear(32, V), nn.Linear(64, 1)
params = {id(p): p for m in (gen, disc, gen_head, disc_head) for p in m.parameters()}
opt = torch.optim.AdamW(list(params.values()), lr=2e-3, weight_decay=0.01)


def corrupt(x, m):
    logits = gen_head(gen(x.masked_fill(m, MASK)))
    with torch.no_grad():
        g = -torch.log(-torch.log(torch.rand_like(logits).clamp(1e-9, 1 - 1e-7)))
        fake = torch.where(m, (logits + g).argmax(-1), x)
    return logits, fake


STEPS = 220
for step in range(STEPS):
    for grp in opt.param_groups:
        grp["lr"] = 2e-3 * min((step + 1) / 30, 1 - step / STEPS)
    x = torch.tensor([sentence() for _ in range(32)])
    m = torch.rand(x.shape) < 0.2
    logits, fake = corrupt(x, m)
    mlm = F.cross_entropy(logits[m], x[m])
    is_fake = (fake != x).float()             # a lucky generator counts as original
    rtd = F.binary_cross_entropy_with_logits(disc_head(disc(fake)).squeeze(-1), is_fake)
    loss = mlm + 20 * rtd
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(list(params.values()), 1.0)
    opt.step()
    if step % 50 == 0:
        print(f"{step} mlm {mlm.item():.3f} rtd {rtd.item():.3f} replaced {is_fake.mean().item():.3f}")

with torch.no_grad():
    x = torch.tensor([sentence() for _ in range(300)])
    r = torch.rand(x.shape) < 0.12
    fake = torch.where(r, torch.randint(6, 61, x.shape), x)
    p = disc_head(disc(fake)).squeeze(-1) > 0
    y = fake != x
    f1 = 2 * (p & y).sum() / (p.sum() + y.sum())
print(f"new sentences, random replacements: F1 of detection {f1.item():.3f}")
