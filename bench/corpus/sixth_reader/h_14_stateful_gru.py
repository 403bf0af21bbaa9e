"""Stateful character GRU with truncated back-propagation: contiguous streams, hidden state carried over, never shuffled.

SGD with a plateau schedule, weight-dropped recurrent matrix in spirit of AWD-LSTM (plain dropout here), eval with batch 1.
"""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(43)
torch.manual_seed(43)
STREAMS, BPTT = 24, 24


def story(n):
    """each paragraph has a hero, named once at its start; later sentences only refer to it at their end"""
    out = []
    for _ in range(n):
        hero = random.choice(["mara", "otto", "ivan", "lena"])
        out.append(f"[{hero}] ")
        for _ in range(random.randint(2, 4)):
            out.append(f"{random.choice(['it rains', 'it snows', 'sun'])}, says {hero}. ")
    return "".join(out)


train_text, val_text = story(900), story(60)
chars = sorted(set(train_text))
stoi = {c: i for i, c in enumerate(chars)}
V = len(chars)


def to_streams(text, n):
    ids = torch.tensor([stoi[c] for c in text])
    ids = ids[: len(ids) // n * n]
    return ids.view(n, -1).t().contiguous()                 # time, stream


class CharGRU(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.emb = nn.Embedding(V, d)
        self.drop = nn.Dropout(0.1)
        self.rnn = nn.GRU(d, d)
        self.out = nn.Linear(d, V)
        self.out.weight = self.emb.weight
        nn.init.uniform_(self.emb.weight, -0.1, 0.1)

    def forward(self, x, h):
        y, h = self.rnn(self.drop(self.emb(x)), h)
        return self.out(self.drop(y)), h


train, val = to_streams(train_text, STREAMS), to_streams(val_text, 1)
model = CharGRU()
opt = torch.optim.SGD(model.parameters(), lr=4.0)
plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=0, threshold=0.02)
print(f"{V} characters, train {tuple(train.shape)}, val {tuple(val.shape)}")


@torch.no_grad()
def evaluate():
    model.eval()
    h, total, n = None, 0.0, 0
    for i in range(0, len(val) - 1, 200):
        x, y = val[i:i + 200], val[i + 1:i + 201]
        x = x[: len(y)]
        logits, h = model(x, h)
        total += F.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="sum").item()
        n += y.numel()
    model.train()
    return total / n


for epoch in range(8):
    h, total, count = None, 0.0, 0
    for i in range(0, len(train) - 1, BPTT):
        x, y = train[i:i + BPTT], train[i + 1:i + 1 + BPTT]
        x = x[: len(y)]
        if h is not None:
            h = h.detach()
        logits, h = model(x, h)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.25)
        opt.step()
        total += loss.item() * y.numel()
        count += y.numel()
    v = evaluate()
    lr = opt.param_groups[0]["lr"]
    plateau.step(v)
    print(f"epoch {epoch} train {total / count:.3f} val {v:.3f} lr {lr:g}")

model.eval()
text = "[otto] it rains, says "
with torch.no_grad():
    logits, h = model(torch.tensor([[stoi[c]] for c in text]), None)
    for _ in range(40):
        nxt = logits[-1].argmax(-1, keepdim=True)
        text += chars[nxt.item()]
        logits, h = model(nxt, h)
print(repr(text))
