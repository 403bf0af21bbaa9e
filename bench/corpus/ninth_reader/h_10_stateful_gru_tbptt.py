"""Truncated BPTT: text streams are read in order (no shuffling), the hidden state is carried over and detached."""
import math
import random
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(18); random.seed(18)
# the opening mark of a passage, 3-13 characters back, decides its closing mark: the state has to last across windows
PAIRS = {"(": ")", "[": "]", "{": "}", "<": ">"}


def passage():
    o = random.choice(list(PAIRS))
    body = "".join(random.choice(["ab", "cd", "aab"]) for _ in range(random.randint(1, 4)))
    return o + body + PAIRS[o]


def stream(n):
    return "".join(passage() for _ in range(n))


chars = sorted("abcd" + "".join(PAIRS) + "".join(PAIRS.values()))
enc = {c: i for i, c in enumerate(chars)}
B, WIN = 32, 10


def columns(s):
    t = torch.tensor([enc[c] for c in s])
    return t[: len(t) // B * B].view(B, -1)


train, val = columns(stream(5600)), columns(stream(500))
emb, gru, out = nn.Embedding(len(chars), 24), nn.GRU(24, 64, batch_first=True), nn.Linear(64, len(chars))
params = [*emb.parameters(), *gru.parameters(), *out.parameters()]
opt = torch.optim.Adam(params, lr=1e-2)


def sweep(data, learn):
    h, total, count, hit, closers = None, 0.0, 0, 0, 0
    close_ids = torch.tensor([enc[c] for c in PAIRS.values()])
    for s in range(0, data.size(1) - WIN - 1, WIN):
        x, y = data[:, s:s + WIN], data[:, s + 1:s + WIN + 1]
        z, h = gru(emb(x), h)
        h = h.detach()
        logits = out(z)
        loss = F.cross_entropy(logits.flatten(0, 1), y.flatten())
        if learn:
            for p in params:
                p.grad = None
            loss.backward()
            nn.utils.clip_grad_norm_(params, 1.0)
            opt.step()
        is_close = torch.isin(y, close_ids)
        best = close_ids[logits[..., close_ids].argmax(-1)]
        hit += ((best == y) & is_close).sum().item(); closers += is_close.sum().item()
        total += loss.item(); count += 1
    return total / count, hit / closers


for epoch in range(2):
    print("epoch", epoch, "train %.3f  right bracket %.3f" % sweep(train, True))
with torch.no_grad():
    nll, right = sweep(val, False)
print(f"METRIC val_bits {nll / math.log(2):.3f}  right_bracket {right:.3f} (chance 0.25)")
