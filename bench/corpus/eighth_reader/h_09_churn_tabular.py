"""Imbalanced tabular classification (churn) with categorical embeddings, pos_weight and early stopping."""
import copy

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(0)
torch.manual_seed(0)
n = 3000
plan, region = rng.integers(0, 4, n), rng.integers(0, 12, n)
num = rng.normal(size=(n, 6)) * [1, 20, 300, 2, 5, 0.1] + [3, 40, 900, 0, 10, 0.5]
effect = rng.normal(0, 0.6, 12)
z = -3.2 + 0.9 * (num[:, 0] - 3) - 0.04 * (num[:, 1] - 40) + effect[region] + np.array([0.8, 0, -0.5, 0.3])[plan]
churn = (rng.random(n) < 1 / (1 + np.exp(-z))).astype(np.float32)

order = rng.permutation(n)
tr, va, te = order[:2100], order[2100:2500], order[2500:]
mean, std = num[tr].mean(0), num[tr].std(0)
num = ((num - mean) / std).astype(np.float32)
cat = np.stack([plan, region], 1)
print(f"churn rate train {churn[tr].mean():.3f}  val {churn[va].mean():.3f}  test {churn[te].mean():.3f}")


def ds(i):
    return TensorDataset(torch.tensor(num[i]), torch.tensor(cat[i]), torch.tensor(churn[i]))


class TabNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.ModuleList([nn.Embedding(4, 3), nn.Embedding(12, 5)])
        self.mlp = nn.Sequential(nn.Linear(14, 64), nn.ReLU(), nn.BatchNorm1d(64), nn.Dropout(0.2),
                                 nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x, c):
        e = [emb(c[:, i]) for i, emb in enumerate(self.emb)]
        return self.mlp(torch.cat([x] + e, 1)).squeeze(1)


def auc(score, label):
    r = score.argsort().argsort().float() + 1
    pos = label.sum()
    return ((r[label == 1].sum() - pos * (pos + 1) / 2) / (pos * (len(label) - pos))).item()


model = TabNet()
pos_weight = torch.tensor((1 - churn[tr].mean()) / churn[tr].mean())
crit = nn.BCEWithLogitsLoss(pos_weight=pos_weight)
opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=1e-2)
loader = DataLoader(ds(tr), batch_size=64, shuffle=True, drop_last=True)
val, test = ds(va).tensors, ds(te).tensors

best, best_state, bad = 0.0, None, 0
for epoch in range(25):
    model.train()
    tot = 0.0
    for x, c, y in loader:
        opt.zero_grad()
        loss = crit(model(x, c), y)
        loss.backward()
        opt.step()
        tot += loss.item()
    model.eval()
    with torch.no_grad():
        a = auc(model(val[0], val[1]), val[2])
    print(f"epoch {epoch + 1}: loss {tot / len(loader):.4f} val auc {a:.4f}")
    if a > best:
        best, best_state, bad = a, copy.deepcopy(model.state_dict()), 0
    else:
        bad += 1
        if bad >= 6:
            print("early stop")
            break
model.load_state_dict(best_state)
model.eval()
with torch.no_grad():
    print(f"best val auc {best:.4f}, test auc {auc(model(test[0], test[1]), test[2]):.4f}")
