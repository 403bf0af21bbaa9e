"""Multi-step demand forecast with a GRU, covariates, and a split in time."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
N = 2400
t = torch.arange(N).float()
promo = (torch.rand(N) < 0.15).float()
demand = 20 + 0.002 * t + 5 * torch.sin(2 * torch.pi * t / 24) + 2 * torch.sin(2 * torch.pi * t / 168) + 6 * promo
demand = demand + 0.7 * torch.randn(N)
split = 1900
mu, sd = demand[:split].mean(), demand[:split].std()
z = (demand - mu) / sd
hour = torch.stack([torch.sin(2 * torch.pi * t / 24), torch.cos(2 * torch.pi * t / 24)], 1)
feats = torch.cat([z[:, None], promo[:, None], hour], 1)
L, H = 48, 6

def windows(lo, hi):
    idx = range(lo + L, hi - H)
    past = torch.stack([feats[i - L:i] for i in idx])
    known = torch.stack([promo[i:i + H] for i in idx])
    return TensorDataset(past, known, torch.stack([z[i:i + H] for i in idx]))

train = DataLoader(windows(0, split), batch_size=64, shuffle=True)
test = DataLoader(windows(split, N), batch_size=128)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(4, 32, batch_first=True)
        self.out = nn.Sequential(nn.Linear(32 + H, 48), nn.ReLU(), nn.Linear(48, H))

    def forward(self, past, known):
        _, h = self.gru(past)
        return self.out(torch.cat([h[-1], known], 1))

net = Net()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
sched = torch.optim.lr_scheduler.StepLR(opt, 4, 0.5)
loss_fn = nn.HuberLoss()
for epoch in range(8):
    net.train()
    tr = 0.0
    for past, known, y in train:
        opt.zero_grad()
        loss = loss_fn(net(past, known), y)
        loss.backward()
        opt.step()
        tr += loss.item()
    sched.step()
    net.eval()
    with torch.no_grad():
        mae = torch.cat([(net(p, k) - y).abs() for p, k, y in test]).mean() * sd
    print(f"epoch {epoch + 1} train {tr / len(train):.4f} test MAE {mae:.3f} units")
naive = (demand[split + 24:] - demand[split:-24]).abs().mean()
print(f"same hour yesterday MAE {naive:.3f}")
