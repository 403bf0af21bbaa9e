"""Heteroscedastic regression on a table; the Gaussian negative log-likelihood goes below zero."""
import torch
import torch.nn as nn

torch.manual_seed(38)
N = 3000
x = torch.randn(N, 5)
noise = 0.02 + 0.25 * torch.sigmoid(2 * x[:, 3])
y = 0.6 * torch.tanh(x[:, 0]) + 0.3 * x[:, 1] * x[:, 2] + noise * torch.randn(N)
xtr, ytr, xte, yte = x[:2400], y[:2400], x[2400:], y[2400:]

net = nn.Sequential(nn.Linear(5, 64), nn.Tanh(), nn.Linear(64, 64), nn.Tanh(), nn.Linear(64, 2))
opt = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1e-4)
EPOCHS = 60
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=6e-3, epochs=EPOCHS, steps_per_epoch=38)


def nll(inp, target):
    mean, raw = net(inp).unbind(-1)
    log_std = raw.clamp(-5, 2)
    return (log_std + 0.5 * ((target - mean) * torch.exp(-log_std)) ** 2).mean()


for epoch in range(EPOCHS):
    for idx in torch.randperm(len(xtr)).split(64):
        loss = nll(xtr[idx], ytr[idx])
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        opt.step()
        sched.step()
    if epoch % 12 == 11:
        print(f"epoch {epoch + 1} nll {loss.item():.3f}")

net.eval()
with torch.no_grad():
    mean, raw = net(xte).unbind(-1)
    inside = ((yte - mean).abs() < 1.645 * raw.exp()).float().mean().item()
    r2 = 1 - (yte - mean).square().sum() / (yte - yte.mean()).square().sum()
    print(f"coverage of the 90% interval {inside:.3f}, R2 {r2.item():.3f}")
    print(f"held-out nll {nll(xte, yte).item():.3f}")
