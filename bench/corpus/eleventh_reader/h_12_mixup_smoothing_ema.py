"""Spectrum classification with mixup, label smoothing and an averaged copy of the weights for evaluation."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

torch.manual_seed(61)
C, L = 5, 64
grid = torch.linspace(0, 1, L)
peaks = torch.rand(C, 3)


def spectra(n):
    y = torch.randint(0, C, (n,))
    centre = peaks[y] + 0.015 * torch.randn(n, 3)
    x = torch.exp(-((grid - centre[..., None]) / 0.03) ** 2).sum(1)
    return (x + 0.5 * torch.randn(n, L)).unsqueeze(1), y


x, y = spectra(1500)
xt, yt = spectra(500)
net = nn.Sequential(nn.Conv1d(1, 16, 7, padding=3), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool1d(2),
                    nn.Conv1d(16, 32, 5, padding=2), nn.GroupNorm(4, 32), nn.ReLU(), nn.MaxPool1d(2),
                    nn.Flatten(), nn.Dropout(0.3), nn.Linear(512, C))
ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.98))
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
mix = torch.distributions.Beta(0.6, 0.6)

for epoch in range(10):
    net.train()
    right = total = 0.0
    for idx in torch.randperm(len(x)).split(50):
        lam, other = mix.sample().item(), idx[torch.randperm(len(idx))]
        out = net(lam * x[idx] + (1 - lam) * x[other])
        loss = (lam * F.cross_entropy(out, y[idx], label_smoothing=0.1)
                + (1 - lam) * F.cross_entropy(out, y[other], label_smoothing=0.1))
        opt.zero_grad()
        loss.backward()
        opt.step()
        ema.update_parameters(net)
        right += (out.argmax(1) == y[idx]).float().sum().item()
        total += loss.item() * len(idx)
    print(f"epoch {epoch} loss {total / len(x):.3f} accuracy on mixed batches {right / len(x):.3f}")

ema.eval()
with torch.no_grad():
    print(f"held-out accuracy {(ema(xt).argmax(1) == yt).float().mean().item():.3f}")
