"""Regression of house prices from a table with an MLP."""
import numpy as np
import pandas as pd
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

rng = np.random.default_rng(0)
torch.manual_seed(0)
n = 4000
df = pd.DataFrame({"area": rng.uniform(30, 250, n), "rooms": rng.integers(1, 8, n), "age": rng.uniform(0, 100, n),
                   "district": rng.choice(["north", "south", "centre", "harbour"], n), "garden": rng.integers(0, 2, n)})
per_m2 = df["district"].map({"north": 2.1, "south": 2.6, "centre": 4.5, "harbour": 3.8})
df["price"] = df["area"] * per_m2 * (1 - 0.003 * df["age"]) + 15 * df["rooms"] + 40 * df["garden"] + rng.normal(0, 15, n)

train_df, test_df = df.iloc[:3200], df.iloc[3200:]
num = ["area", "rooms", "age"]
mean, std = train_df[num].mean(), train_df[num].std()
y_mean, y_std = train_df["price"].mean(), train_df["price"].std()

def tensors(part):
    x = pd.concat([(part[num] - mean) / std, part[["garden"]],
                   pd.get_dummies(part["district"]).reindex(columns=["centre", "harbour", "north", "south"])], axis=1)
    y = (part["price"] - y_mean) / y_std
    return torch.tensor(x.to_numpy(dtype=np.float32)), torch.tensor(y.to_numpy(dtype=np.float32))

x_train, y_train = tensors(train_df)
x_test, y_test = tensors(test_df)
loader = DataLoader(TensorDataset(x_train, y_train), batch_size=64, shuffle=True)

model = nn.Sequential(nn.Linear(8, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=1e-5)
scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=30)

for epoch in range(30):
    model.train()
    total = 0.0
    for xb, yb in loader:
        pred = model(xb)
        loss = ((pred - yb) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    scheduler.step()
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1}: train mse {total / len(loader):.4f}")

model.eval()
with torch.no_grad():
    pred = model(x_test).numpy().ravel() * y_std + y_mean
truth = test_df["price"].to_numpy()
print(f"test MAE {np.abs(pred - truth).mean():.1f} thousand, R2 {1 - ((pred - truth) ** 2).sum() / ((truth - truth.mean()) ** 2).sum():.3f}")
