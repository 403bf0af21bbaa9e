"""Spam filter, 6% spam: training batches are balanced by a sampler, the test set is not; threshold prior-corrected."""
import math
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset, WeightedRandomSampler

rng = np.random.default_rng(8)
torch.manual_seed(8)
V, L, RATE = 500, 20, 0.06
spam_words = rng.choice(V, 40, replace=False)


def mails(n):
    y = (rng.random(n) < RATE).astype("int64")
    x = rng.integers(0, V, (n, L))
    hit = (rng.random((n, L)) < 0.28) & (y[:, None] == 1)
    x[hit] = rng.choice(spam_words, hit.sum())
    return torch.from_numpy(x), torch.from_numpy(y)


xtr, ytr = mails(6000)
xte, yte = mails(3000)
w = torch.where(ytr == 1, 1 / RATE, 1 / (1 - RATE))
loader = DataLoader(TensorDataset(xtr, ytr), batch_size=64,
                    sampler=WeightedRandomSampler(w, num_samples=64 * 220, replacement=True))
net = nn.Sequential(nn.EmbeddingBag(V, 16, mode="mean"), nn.Linear(16, 1))
opt = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=2e-4)
for i, (x, y) in enumerate(loader):
    loss = nn.functional.binary_cross_entropy_with_logits(net(x).squeeze(1), y.float())
    opt.zero_grad(); loss.backward(); opt.step()
    if i % 55 == 0:
        print(f"batch {i} loss {loss.item():.3f} share of spam {y.float().mean():.2f}")
net.eval()
with torch.no_grad():
    s = net(xte).squeeze(1) + math.log(RATE / (1 - RATE))     # undo the balanced prior
pred = s > 0
tp = (pred & (yte == 1)).sum().item()
f1 = 2 * tp / max(1, (pred.sum() + (yte == 1).sum()).item())
order = s.argsort()
ranks = torch.empty(len(s)); ranks[order] = torch.arange(1, len(s) + 1).float()
n1 = (yte == 1).sum()
auc = ((ranks[yte == 1].sum() - n1 * (n1 + 1) / 2) / (n1 * (len(yte) - n1))).item()
print(f"METRIC auc {auc:.3f} f1 {f1:.3f}")
