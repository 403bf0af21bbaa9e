"""MLP regression on a synthetic house price table."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(0)
torch.manual_seed(0)

n = 2000
area = rng.normal(120, 35, n).clip(30)
rooms = rng.integers(1, 7, n)
age = rng.uniform(0, 80, n)
dist = rng.exponential(6, n)
garden = rng.integers(0, 2, n)
price = 2.2 * area + 12 * rooms - 0.9 * age - 4.5 * dist + 25 * garden + 0.01 * area * rooms + rng.normal(0, 12, n)

X = np.column_stack([area, rooms, age, dist, garden]).astype(np.float32)
y = price.astype(np.float32)
idx = rng.permutation(n)
tr, te = idx[:1600], idx[1600:]
mu, sd = X[tr].mean(0), X[tr].std(0)
X = (X - mu) / sd
y_mu, y_sd = y[tr].mean(), y[tr].std()
y = (y - y_mu) / y_sd

train_loader = DataLoader(TensorDataset(torch.from_numpy(X[tr]), torch.from_numpy(y[tr])), batch_size=64, shuffle=True)
X_test, y_test = torch.from_numpy(X[te]), y[te]

model = nn.Sequential(nn.Linear(5, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
loss_fn = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)

for epoch in range(30):
    model.train()
    total = 0.0
    for xb, yb in train_loader:
        pred = model(xb)
        loss = loss_fn(pred, yb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    if (epoch + 1) % 5 == 0:
        print(f"epoch {epoch + 1}: train loss {total / len(train_loader):.4f}")

model.eval()
with torch.no_grad():
    p = model(X_test).numpy().ravel()
rmse = np.sqrt(np.mean((p - y_test) ** 2)) * y_sd
r2 = 1 - np.sum((p - y_test) ** 2) / np.sum((y_test - y_test.mean()) ** 2)
print(f"test RMSE {rmse:.1f}k  R2 {r2:.3f}")
