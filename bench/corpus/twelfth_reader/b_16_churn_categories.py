"""Churn prediction with embeddings for categorical columns."""
import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(1)
torch.manual_seed(1)
n = 5000
plans = ["basic", "business", "family", "premium", "student", "trial"]
regions = [f"region_{i:02d}" for i in range(15)]
table = pd.DataFrame({"plan": rng.choice(plans, n, p=[.3, .02, .2, .2, .2, .08]), "region": rng.choice(regions, n),
                      "months": rng.integers(1, 60, n), "calls": rng.poisson(2, n),
                      "joined": pd.Timestamp("2021-01-01") + pd.to_timedelta(rng.integers(0, 1000, n), unit="D")})
plan_effect = dict(zip(plans, [0.5, -2.0, -1.5, 1.5, -2.5, 2.5]))
region_effect = dict(zip(regions, rng.normal(0, 1.2, 15)))
logit = table["plan"].map(plan_effect) + table["region"].map(region_effect) - 0.02 * table["months"] + 0.2 * table["calls"]
table["churn"] = (rng.random(n) < 1 / (1 + np.exp(-2 * logit))).astype(int)

cutoff = pd.Timestamp("2023-03-01")
train_df = table[table["joined"] < cutoff]
test_df = table[(table["joined"] >= cutoff) & (table["plan"] != "business") & (table["region"] != "region_03")]
cats, nums = ["plan", "region"], ["months", "calls"]
mean, std = train_df[nums].mean(), train_df[nums].std()

def to_tensors(df):
    codes = np.stack([df[c].astype("category").cat.codes for c in cats], axis=1)
    values = ((df[nums] - mean) / std).to_numpy(dtype=np.float32)
    return torch.tensor(codes, dtype=torch.long), torch.tensor(values), torch.tensor(df["churn"].to_numpy(), dtype=torch.float32)

train_t, test_t = to_tensors(train_df), to_tensors(test_df)
loader = DataLoader(TensorDataset(*train_t), batch_size=64, shuffle=True)

class ChurnNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embs = nn.ModuleList([nn.Embedding(table[c].nunique(), 6) for c in cats])
        self.mlp = nn.Sequential(nn.Linear(6 * len(cats) + len(nums), 32), nn.ReLU(), nn.Dropout(0.1), nn.Linear(32, 1))

    def forward(self, c, v):
        e = [emb(c[:, i]) for i, emb in enumerate(self.embs)]
        return self.mlp(torch.cat(e + [v], dim=1)).squeeze(1)

net = ChurnNet()
opt = torch.optim.Adam(net.parameters(), lr=3e-3, weight_decay=1e-5)
loss_fn = nn.BCEWithLogitsLoss()
for epoch in range(12):
    net.train()
    total = 0.0
    for c, v, y in loader:
        opt.zero_grad()
        loss = loss_fn(net(c, v), y)
        loss.backward()
        opt.step()
        total += loss.item()
    net.eval()
    with torch.no_grad():
        logits = net(test_t[0], test_t[1])
    print(f"epoch {epoch + 1}: loss {total / len(loader):.4f} test loss {loss_fn(logits, test_t[2]).item():.4f} "
          f"test acc {((logits > 0).float() == test_t[2]).float().mean().item():.3f}")
