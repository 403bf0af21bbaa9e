"""Deep Cox model: the loss is a partial likelihood over the whole risk set (rows of a batch are not independent),
the last layer has no bias (it would cancel) and half of the subjects are censored."""
import torch
import torch.nn as nn

torch.manual_seed(34)


def cohort(n):
    x = torch.randn(n, 6)
    risk = 1.2 * x[:, 0] * x[:, 1] + x[:, 2] - 0.7 * (x[:, 3] > 0).float()
    t = -torch.rand(n).log() / risk.exp()
    c = -torch.rand(n).log() * 1.3
    return x, torch.minimum(t, c), (t <= c)


def partial_likelihood(score, time, event):
    order = time.argsort(descending=True)
    s, e = score[order], event[order]
    return -((s - s.logcumsumexp(0)) * e).sum() / e.sum()


def c_index(score, time, event):
    first = (time[:, None] < time[None]) & event[:, None]
    return ((score[:, None] > score[None]) & first).sum().item() / first.sum().item()


x, t, e = cohort(2000)
xt, tt, et = cohort(1000)
net = nn.Sequential(nn.Linear(6, 48), nn.SELU(), nn.Linear(48, 48), nn.SELU(), nn.Linear(48, 1, bias=False))
opt = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=1e-2)
for step in range(200):
    i = torch.randperm(len(x))[:500]
    loss = partial_likelihood(net(x[i]).squeeze(-1), t[i], e[i])
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 40 == 0:
        print(step, f"{loss.item():.3f}")
with torch.no_grad():
    print(f"METRIC c_index {c_index(net(xt).squeeze(-1), tt, et):.3f} (chance 0.5; censored {1 - et.float().mean():.2f})")
