"""Predict the energy use of a building together with an uncertainty (Gaussian NLL)."""
import math

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(7)
rng = np.random.default_rng(7)


def make_buildings(n):
    area = rng.uniform(50, 400, n)
    age = rng.uniform(0, 60, n)
    outside = rng.normal(9, 8, n)
    people = rng.poisson(3, n)
    insulation = rng.integers(0, 3, n)
    noise = rng.normal(0, 1, n) * (4 + 0.06 * area)
    demand = 0.22 * area * (1.1 - 0.25 * insulation) * np.maximum(19 - outside, 0) / 10
    demand = demand + 6 * people + 0.25 * age + noise
    x = np.stack([area, age, outside, people, insulation], 1).astype(np.float32)
    return x, demand.astype(np.float32)


x_train, y_train = make_buildings(4000)
x_test, y_test = make_buildings(1000)
x_mean, x_std = x_train.mean(0), x_train.std(0)
y_mean, y_std = y_train.mean(), y_train.std()


def prepare(x, y):
    return torch.from_numpy((x - x_mean) / x_std), torch.from_numpy((y - y_mean) / y_std)


class MeanVarianceNet(nn.Module):
    def __init__(self, n_in, hidden=64):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(n_in, hidden), nn.SiLU(),
            nn.Linear(hidden, hidden), nn.SiLU(),
        )
        self.mean = nn.Linear(hidden, 1)
        self.logvar = nn.Linear(hidden, 1)

    def forward(self, x):
        h = self.body(x)
        return self.mean(h), self.logvar(h).clamp(-6, 4)


def gaussian_nll(mean, logvar, target):
    sq = (target - mean) ** 2
    return 0.5 * (logvar + sq / logvar.exp()).mean() + 0.5 * math.log(2 * math.pi)


train_loader = DataLoader(TensorDataset(*prepare(x_train, y_train)), batch_size=128, shuffle=True)
xt, yt = prepare(x_test, y_test)

net = MeanVarianceNet(x_train.shape[1])
optim = torch.optim.Adam(net.parameters(), lr=2e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(optim, T_max=30)

for epoch in range(1, 31):
    net.train()
    total, seen = 0.0, 0
    for xb, yb in train_loader:
        mean, logvar = net(xb)
        loss = gaussian_nll(mean, logvar, yb)
        optim.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optim.step()
        total += loss.item() * len(xb)
        seen += len(xb)
    sched.step()
    if epoch % 5 == 0 or epoch == 1:
        print(f"epoch {epoch:3d}  train nll {total / seen:.4f}  lr {sched.get_last_lr()[0]:.2e}")

net.eval()
with torch.no_grad():
    mean, logvar = net(xt)
pred = mean.squeeze(1).numpy() * y_std + y_mean
sigma = (0.5 * logvar).exp().squeeze(1).numpy() * y_std
rmse = float(np.sqrt(np.mean((pred - y_test) ** 2)))
mae = float(np.mean(np.abs(pred - y_test)))
cover = float(np.mean(np.abs(pred - y_test) < 1.96 * sigma))
r2 = 1 - np.sum((pred - y_test) ** 2) / np.sum((y_test - y_test.mean()) ** 2)
print(f"test: rmse {rmse:.2f} kWh  mae {mae:.2f} kWh  R2 {r2:.3f}  95% coverage {cover:.3f}")
