"""Forecast the next value of noisy waves with an LSTM."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

def windows(n, length=30):
    t = torch.arange(length + 1).float()
    freq = 0.2 + 0.6 * torch.rand(n, 1)
    phase = 6.28 * torch.rand(n, 1)
    amp = 0.5 + torch.rand(n, 1)
    s = amp * torch.sin(freq * t + phase) + 0.03 * torch.randn(n, length + 1)
    return s[:, :-1].unsqueeze(-1), s[:, -1:]

x_train, y_train = windows(3000)
x_test, y_test = windows(600)
train_loader = DataLoader(TensorDataset(x_train, y_train), batch_size=64, shuffle=True)
test_loader = DataLoader(TensorDataset(x_test, y_test), batch_size=64)

class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(1, 48, num_layers=1)
        self.head = nn.Linear(48, 1)

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1])

model = Forecaster()
criterion = nn.MSELoss()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)

for epoch in range(10):
    model.train()
    total = 0.0
    for x, y in train_loader:
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        total += loss.item()
    model.eval()
    with torch.no_grad():
        mse = sum(criterion(model(x), y).item() * len(x) for x, y in test_loader) / len(x_test)
    print(f"epoch {epoch + 1}: train mse {total / len(train_loader):.4f} test mse {mse:.4f}")
print(f"variance of the target: {y_test.var().item():.4f}")
