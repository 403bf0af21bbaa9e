"""Tiny intent classifier: nn.TransformerEncoder over word ids, trained from scratch."""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

SEED = 11
random.seed(SEED)
torch.manual_seed(SEED)

VERBS = ["open", "close", "lock", "dim", "raise"]
THINGS = ["door", "window", "lamp", "blind", "gate", "valve"]
FILLER = ["please", "now", "the", "could", "you", "and", "then", "quickly", "again"]
PAD, NOT = 0, 1
VOCAB = {w: i + 2 for i, w in enumerate(VERBS + THINGS + FILLER)}
MAXLEN = 12


def sentence():
    # class = verb of the command that is NOT negated ("not" negates the verb right after it)
    a, b = random.sample(VERBS, 2)
    words = [random.choice(FILLER) for _ in range(random.randint(1, 3))]
    first_negated = random.random() < 0.5
    words += (["not"] if first_negated else []) + [a, random.choice(THINGS)]
    words += [random.choice(FILLER) for _ in range(random.randint(0, 2))]
    words += ([] if first_negated else ["not"]) + [b, random.choice(THINGS)]
    ids = [NOT if w == "not" else VOCAB[w] for w in words]
    return ids + [PAD] * (MAXLEN - len(ids)), VERBS.index(b if first_negated else a)


def build(n):
    rows = [sentence() for _ in range(n)]
    return torch.tensor([r[0] for r in rows]), torch.tensor([r[1] for r in rows])


class IntentModel(nn.Module):
    def __init__(self, d=48, heads=4, layers=2):
        super().__init__()
        self.emb = nn.Embedding(len(VOCAB) + 2, d, padding_idx=PAD)
        self.pos = nn.Parameter(torch.randn(MAXLEN, d) * 0.5)
        layer = nn.TransformerEncoderLayer(d, heads, 2 * d, dropout=0.0)
        self.enc = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(d, len(VERBS))

    def forward(self, ids):
        h = self.enc(self.emb(ids) * math.sqrt(2) + self.pos)
        keep = (ids != PAD).float().unsqueeze(-1)
        return self.out((h * keep).sum(1) / keep.sum(1))


xtr, ytr = build(3000)
xte, yte = build(600)
model = IntentModel()
opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
step = 0
for epoch in range(5):
    for idx in torch.randperm(len(xtr)).split(64):
        loss = F.cross_entropy(model(xtr[idx]), ytr[idx])
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        step += 1
        if step % 40 == 0:
            print(f"epoch {epoch} step {step} loss {loss.item():.3f}")

model.eval()
with torch.no_grad():
    acc = torch.cat([model(b).argmax(-1) for b in xte.split(64)]).eq(yte).float().mean().item()
print(f"METRIC test_acc {acc:.3f}")
