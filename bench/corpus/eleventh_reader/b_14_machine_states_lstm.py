"""Recognise the state of a machine from windows of four sensor channels with an LSTM."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(31)
STEPS, CH, STATES = 30, 4, 4


def windows(n):
    y = torch.randint(0, STATES, (n,))
    t = torch.arange(STEPS).float()
    freq = torch.tensor([0.25, 0.55, 0.9, 1.4])[y]
    phase = torch.rand(n, CH) * 6.283
    x = torch.sin(freq[:, None, None] * t[None, :, None] + phase[:, None, :])
    return x + 0.3 * torch.randn(n, STEPS, CH), y


class StateNet(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.norm = nn.LayerNorm(CH)
        self.lstm = nn.LSTM(CH, hidden, num_layers=1)
        self.head = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, STATES))

    def forward(self, x):
        out, _ = self.lstm(self.norm(x))
        return self.head(out[:, -1])


xtr, ytr = windows(1600)
xte, yte = windows(400)
train = DataLoader(TensorDataset(xtr, ytr), batch_size=40, shuffle=True, drop_last=True)
test = DataLoader(TensorDataset(xte, yte), batch_size=40)

net = StateNet()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
for epoch in range(10):
    net.train()
    total = 0.0
    for xb, yb in train:
        loss = nn.functional.cross_entropy(net(xb), yb)
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        total += loss.item()
    print(f"epoch {epoch} loss {total / len(train):.3f}")

net.eval()
hits = 0
with torch.no_grad():
    for xb, yb in test:
        hits += (net(xb).argmax(1) == yb).sum().item()
print(f"held-out accuracy {hits / len(yte):.3f}")
