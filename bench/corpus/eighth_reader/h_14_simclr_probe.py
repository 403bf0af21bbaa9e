"""SimCLR pretraining on unlabelled signals, then a linear probe on the frozen encoder with 60 labels."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
T = 64


def signals(n):
    y = torch.randint(0, 4, (n,))
    t = torch.arange(T) / T
    f = torch.tensor([3.0, 5.0, 8.0, 12.0])[y].unsqueeze(1) + 0.4 * torch.randn(n, 1)
    return (torch.sin(2 * torch.pi * (f * t + torch.rand(n, 1))) + 0.3 * torch.randn(n, T)).unsqueeze(1), y


def augment(x):
    x = torch.roll(x, int(torch.randint(0, T, (1,))), -1)
    x = x * (0.6 + 0.8 * torch.rand(x.size(0), 1, 1))
    return x + 0.2 * torch.randn_like(x)


class Encoder(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.net = nn.Sequential(nn.Conv1d(1, 16, 9, 2, 4), nn.BatchNorm1d(16), nn.ReLU(),
                                 nn.Conv1d(16, 32, 7, 2, 3), nn.BatchNorm1d(32), nn.ReLU(),
                                 nn.Conv1d(32, d, 5, 2, 2), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten())

    def forward(self, x):
        return self.net(x)


def nt_xent(a, b, tau=0.2):
    z = F.normalize(torch.cat([a, b]), dim=1)
    sim = z @ z.t() / tau
    sim.fill_diagonal_(float("-inf"))
    n = len(a)
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)])
    return F.cross_entropy(sim, target)


unlabelled, _ = signals(1536)
lab_x, lab_y = signals(60)
test_x, test_y = signals(400)
enc, proj = Encoder(), nn.Sequential(nn.Linear(48, 48), nn.ReLU(), nn.Linear(48, 24))
opt = torch.optim.AdamW(list(enc.parameters()) + list(proj.parameters()), lr=2e-3)
dl = DataLoader(TensorDataset(unlabelled), batch_size=128, shuffle=True, drop_last=True)
for epoch in range(1, 11):
    tot = 0.0
    for (x,) in dl:
        loss = nt_xent(proj(enc(augment(x))), proj(enc(augment(x))))
        opt.zero_grad()
        loss.backward()
        opt.step()
        tot += loss.item()
    if epoch % 2 == 0:
        print(f"pretrain epoch {epoch}: nt-xent {tot / len(dl):.3f}")

enc.requires_grad_(False)
enc.eval()
with torch.no_grad():
    feats, test_feats = enc(lab_x), enc(test_x)
mu, sd = feats.mean(0), feats.std(0) + 1e-6
feats, test_feats = (feats - mu) / sd, (test_feats - mu) / sd
probe = nn.Linear(48, 4)
popt = torch.optim.LBFGS(probe.parameters(), lr=1.0, max_iter=40)


def closure():
    popt.zero_grad()
    loss = F.cross_entropy(probe(feats), lab_y) + 1e-2 * probe.weight.pow(2).sum()
    loss.backward()
    return loss


print(f"probe loss at start {popt.step(closure).item():.3f}")
with torch.no_grad():
    print(f"probe train acc {(probe(feats).argmax(1) == lab_y).float().mean():.3f} "
          f"test acc {(probe(test_feats).argmax(1) == test_y).float().mean():.3f}")
