"""Forecast electricity load 12 hours ahead from the last 48 hours."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset, Subset, random_split

torch.manual_seed(0)
rng = np.random.default_rng(0)

hours = 2400
t = np.arange(hours)
trend = np.cumsum(rng.normal(0, 0.12, hours))
kernel = np.ones(9) / 9
noise = np.convolve(rng.normal(0, 1.6, hours), kernel, mode="same")
load = 10 + 1.2 * np.sin(2 * np.pi * t / 24) + 0.5 * np.sin(2 * np.pi * t / 168) + trend + noise
load = load.astype(np.float32)

history, future = load[:1900], load[1900:]
mean, std = history.mean(), history.std()


class WindowDataset(Dataset):
    def __init__(self, series, lookback=48, horizon=12):
        self.s = torch.from_numpy((series - mean) / std)
        self.lookback, self.horizon = lookback, horizon

    def __len__(self):
        return len(self.s) - self.lookback - self.horizon + 1

    def __getitem__(self, i):
        x = self.s[i:i + self.lookback]
        y = self.s[i + self.lookback:i + self.lookback + self.horizon]
        return x, y


dataset = WindowDataset(history)
n_val = int(0.2 * len(dataset))
train_set, val_set = random_split(dataset, [len(dataset) - n_val, n_val], generator=torch.Generator().manual_seed(0))
train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
val_loader = DataLoader(val_set, batch_size=256)

model = nn.Sequential(nn.Linear(48, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 12))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
mse = nn.MSELoss()


@torch.no_grad()
def evaluate(loader):
    model.eval()
    tot = n = 0
    for x, y in loader:
        tot += mse(model(x), y).item() * len(x)
        n += len(x)
    return tot / n


for epoch in range(1, 41):
    model.train()
    tot = 0.0
    for x, y in train_loader:
        loss = mse(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        tot += loss.item() * len(x)
    if epoch % 10 == 0:
        print(f"epoch {epoch}: train mse {tot / len(train_set):.4f}  val mse {evaluate(val_loader):.4f}")

live = DataLoader(WindowDataset(future), batch_size=256)
print(f"live period (next 3 weeks) mse {evaluate(live):.4f}")
