"""Char LM whose input table is the identity matrix (one-hot) and never trained: an LSTM on raw one-hots."""
import math
import random
import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(1); torch.manual_seed(1)
names = ["anna", "boris", "clara", "dmitri", "elena", "fritz"]
verbs = ["sees", "likes", "calls", "hears"]
adv = {"sees": "clearly", "likes": "dearly", "calls": "loudly", "hears": "faintly"}


def story(n):
    out = []
    for _ in range(n):
        v = random.choice(verbs)
        a, b = random.sample(names, 2)
        out.append(f"{a} {v} {b} {adv[v]}. ")
    return "".join(out)


tr, va = story(1500), story(150)
alphabet = sorted(set(tr))
ix = {c: i for i, c in enumerate(alphabet)}
tr, va = (torch.tensor([ix[c] for c in s]) for s in (tr, va))
C = len(alphabet)


class LM(nn.Module):
    def __init__(self, h=96):
        super().__init__()
        self.onehot = nn.Embedding.from_pretrained(torch.eye(C), freeze=True)
        self.rnn = nn.LSTM(C, h, batch_first=True)
        self.out = nn.Linear(h, C)

    def forward(self, x):
        return self.out(self.rnn(self.onehot(x))[0])


lm = LM()
# the optimizer gets everything, the frozen table included; it simply never has a gradient
opt = torch.optim.Adam(lm.parameters(), lr=8e-3)
for step in range(220):
    s = torch.randint(len(tr) - 41, (24, 1)) + torch.arange(41)
    b = tr[s]
    loss = F.cross_entropy(lm(b[:, :-1]).flatten(0, 1), b[:, 1:].flatten())
    opt.zero_grad(); loss.backward()
    nn.utils.clip_grad_norm_(lm.parameters(), 1.0)
    opt.step()
    if step % 55 == 0:
        print(step, f"{loss.item():.3f}")
lm.eval()
with torch.no_grad():
    n = (len(va) - 1) // 80 * 80
    nll = F.cross_entropy(lm(va[:n].view(-1, 80)).flatten(0, 1), va[1:n + 1]).item()
print(f"METRIC val_bits_per_char {nll / math.log(2):.3f} (uniform {math.log2(C):.2f})")
