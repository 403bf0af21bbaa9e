"""Accelerate gradient accumulation: step() and zero_grad() are called on every micro batch and skipped inside."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from accelerate import Accelerator
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(16)
N, V, T = 4000, 60, 12
key = torch.randint(0, 4, (V,))


def make(n):
    x = torch.randint(0, V, (n, T))
    votes = F.one_hot(key[x], 4).sum(1)
    return x, votes.argmax(1)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(V, 24)
        self.a = nn.Linear(24, 24)
        self.o = nn.Linear(24, 4)

    def forward(self, x):
        return self.o(torch.tanh(self.a(self.e(x))).sum(1))


acc = Accelerator(gradient_accumulation_steps=4, cpu=True)
net = Net()
opt = torch.optim.AdamW(net.parameters(), lr=1e-2)
loader = DataLoader(TensorDataset(*make(N)), batch_size=16, shuffle=True)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=3 * (N // 64 + 1))
net, opt, loader, sched = acc.prepare(net, opt, loader, sched)
for epoch in range(3):
    for x, y in loader:
        with acc.accumulate(net):
            loss = F.cross_entropy(net(x), y)
            acc.backward(loss)
            if acc.sync_gradients:
                acc.clip_grad_norm_(net.parameters(), 5.0)
            opt.step()
            sched.step()
            opt.zero_grad()
    print("epoch", epoch, "loss", round(loss.item(), 3), "lr", f"{sched.get_last_lr()[0]:.5f}")
xt, yt = make(1000)
net.eval()
with torch.no_grad():
    print(f"METRIC test_acc {(net(xt).argmax(1) == yt).float().mean():.3f}")
