"""Matrix factorisation for ratings; the interaction log is kept as one compact tensor."""
import numpy as np
import pandas as pd
import torch
import torch.nn as nn

rng = np.random.default_rng(9)
torch.manual_seed(9)
N_USERS, N_ITEMS, K = 6000, 120, 4
u_true = rng.normal(size=(N_USERS, K)) * 0.8
i_true = rng.normal(size=(N_ITEMS, K))
bias_u = rng.normal(size=N_USERS) * 0.9

n = 90_000
df = pd.DataFrame({"user": rng.integers(0, N_USERS, n), "item": rng.integers(0, N_ITEMS, n)})
df["rating"] = (3 + bias_u[df.user] + (u_true[df.user] * i_true[df.item]).sum(1) * 0.6
                + rng.normal(0, 0.25, n)).clip(0, 6)
df = df.sample(frac=1.0, random_state=1).reset_index(drop=True)
log = torch.tensor(df[["user", "item", "rating"]].to_numpy(), dtype=torch.float16)   # fits in memory on the prod box
train, test = log[:81_000], log[81_000:]


class MF(nn.Module):
    def __init__(self, k=6):
        super().__init__()
        self.u, self.i = nn.Embedding(N_USERS + 8, k), nn.Embedding(N_ITEMS, k)
        self.bu, self.bi = nn.Embedding(N_USERS + 8, 1), nn.Embedding(N_ITEMS, 1)
        self.mu = nn.Parameter(torch.tensor(3.0))
        for e in (self.u, self.i):
            nn.init.normal_(e.weight, std=0.3)
        for e in (self.bu, self.bi):
            nn.init.zeros_(e.weight)

    def forward(self, u, i):
        return self.mu + self.bu(u).squeeze(-1) + self.bi(i).squeeze(-1) + (self.u(u) * self.i(i)).sum(-1)


def unpack(rows):
    return rows[:, 0].long(), rows[:, 1].long(), rows[:, 2].float()


model = MF()
opt = torch.optim.Adam(model.parameters(), lr=2e-2)
for epoch in range(5):
    tot = 0.0
    for idx in torch.randperm(len(train)).split(1500):
        u, i, r = unpack(train[idx])
        loss = ((model(u, i) - r) ** 2).mean() + 1e-4 * model.u.weight.pow(2).sum() / 60
        opt.zero_grad(); loss.backward(); opt.step()
        tot += loss.item() * len(idx)
    print(f"epoch {epoch}: {tot / len(train):.4f}")
with torch.no_grad():
    u, i, r = unpack(test)
    print(f"METRIC test_rmse {((model(u, i) - r) ** 2).mean().sqrt():.4f}")
