"""Mixture density network for the inverse of a two-joint arm (several answers for one target)."""
import math

import torch
from torch import nn

torch.manual_seed(1)


def forward_arm(q):
    return torch.stack([q[:, 0].cos() + 0.8 * (q[:, 0] + q[:, 1]).cos(), q[:, 0].sin() + 0.8 * (q[:, 0] + q[:, 1]).sin()], 1)


def data(n):
    q = torch.stack([torch.rand(n) * 2.0, torch.rand(n) * 4.4 - 2.2], 1)
    return forward_arm(q), q


class MDN(nn.Module):
    def __init__(self, k=6, h=128):
        super().__init__()
        self.k = k
        self.body = nn.Sequential(nn.Linear(2, h), nn.SiLU(), nn.Linear(h, h), nn.SiLU())
        self.pi, self.mu, self.sigma = nn.Linear(h, k), nn.Linear(h, 2 * k), nn.Linear(h, 2 * k)
        nn.init.uniform_(self.mu.bias, -2, 2)

    def forward(self, x):
        h = self.body(x)
        return (self.pi(h).log_softmax(-1), self.mu(h).view(-1, self.k, 2),
                self.sigma(h).view(-1, self.k, 2).clamp(-5, 2))

    def nll(self, x, q):
        lp, mu, ls = self(x)
        z = (q.unsqueeze(1) - mu) * (-ls).exp()
        comp = (-0.5 * z ** 2 - ls - 0.5 * math.log(2 * math.pi)).sum(-1)
        return -torch.logsumexp(lp + comp, -1).mean()


net = MDN()
opt = torch.optim.AdamW(net.parameters(), lr=2e-3)
STEPS = 900
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=STEPS)
for step in range(STEPS):
    loss = net.nll(*data(200))
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 2.0)
    opt.step()
    sched.step()
    if step % 150 == 0:
        print(f"{step} nll {loss.item():.3f}")
x, q = data(1000)
with torch.no_grad():
    lp, mu, _ = net(x)
    best = mu[torch.arange(len(x)), lp.argmax(-1)]
    miss = (forward_arm(best) - x).norm(dim=1).median().item()
    print(f"held-out nll {net.nll(x, q).item():.3f}; hand misses the target by {miss:.3f} (median; arm length 1.8)")
