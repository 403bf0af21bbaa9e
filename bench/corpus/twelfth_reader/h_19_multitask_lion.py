"""Shared trunk with a rare-class head (weighted loss) and a regression head, hand-written Lion optimizer, cyclic rates."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr=1e-4, betas=(0.9, 0.99), weight_decay=0.0):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((b1 * m + (1 - b1) * p.grad).sign(), alpha=-group["lr"])
                m.lerp_(p.grad, 1 - b2)

def make(n):
    x = torch.randn(n, 12)
    s = x[:, 0] * x[:, 1] + x[:, 2]
    return x, (s > 2.0).long(), (torch.sin(x[:, 3]) + 0.5 * s + 0.1 * torch.randn(n))

train, test = make(5000), make(1500)
loader = DataLoader(TensorDataset(*train), batch_size=100, shuffle=True)
trunk = nn.Sequential(nn.Linear(12, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU())
head_c, head_r = nn.Linear(64, 2), nn.Linear(64, 1)
log_var = nn.Parameter(torch.zeros(2))
counts = torch.bincount(train[1]).float()
weight = counts.sum() / (2 * counts)
opt = Lion([{"params": [*trunk.parameters(), *head_c.parameters(), *head_r.parameters()], "weight_decay": 0.05},
            {"params": [log_var]}], lr=3e-4)
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: 0.3 + 1.4 * abs((s / 100) % 2 - 1))

for epoch in range(15):
    total = torch.zeros(2)
    for x, c, r in loader:
        h = trunk(x)
        losses = torch.stack([F.cross_entropy(head_c(h), c, weight=weight), F.mse_loss(head_r(h).squeeze(1), r)])
        loss = (losses * torch.exp(-log_var) + 0.5 * log_var).sum()
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        total += losses.detach()
    if epoch % 3 == 2:
        with torch.no_grad():
            h = trunk(test[0])
            p = head_c(h).argmax(1)
            rec = [(p[test[1] == k] == k).float().mean().item() for k in (0, 1)]
            mse = F.mse_loss(head_r(h).squeeze(1), test[2]).item()
        print(f"epoch {epoch + 1} losses {(total / len(loader)).tolist()} recalls {rec[0]:.3f} {rec[1]:.3f} test mse {mse:.3f}")
