"""Pretrain a small convnet on one labelling, then probe its frozen features (kept in eval mode) on another."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(27)
S = 12


def images(n):
    shape, pos = torch.randint(0, 3, (n,)), torch.randint(0, 4, (n,))
    x = 0.3 * torch.randn(n, 1, S, S)
    for i in range(n):
        r, c = 6 * int(pos[i] // 2) + 1, 6 * int(pos[i] % 2) + 1
        if shape[i] == 0:
            x[i, 0, r:r + 4, c:c + 1] += 1.5
        elif shape[i] == 1:
            x[i, 0, r:r + 1, c:c + 4] += 1.5
        else:
            x[i, 0, r:r + 4, c:c + 4] += 1.0
    return x, shape, shape * 4 + pos


backbone = nn.Sequential(nn.Conv2d(1, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(12, 24, 3, padding=1), nn.BatchNorm2d(24), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Flatten(), nn.Dropout(0.1))
x, shape, both = images(1200)
pre = nn.Linear(216, 12)
opt = torch.optim.AdamW([*backbone.parameters(), *pre.parameters()], lr=3e-3)
backbone.train()
for epoch in range(3):
    for idx in torch.randperm(len(x)).split(40):
        loss = F.cross_entropy(pre(backbone(x[idx])), both[idx])
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"pretext epoch {epoch} loss {loss.item():.3f}")

backbone.requires_grad_(False).eval()
few_x, few_y, _ = images(150)
test_x, test_y, _ = images(400)
with torch.no_grad():
    feats, test_f = backbone(few_x), backbone(test_x)
mean, std = feats.mean(0), feats.std(0) + 1e-3
probe = nn.Linear(216, 3)
opt = torch.optim.LBFGS(probe.parameters(), lr=0.5, max_iter=25)


def closure():
    opt.zero_grad()
    loss = F.cross_entropy(probe((feats - mean) / std), few_y) + 1e-2 * probe.weight.square().sum()
    loss.backward()
    return loss


for round_ in range(3):
    print(f"probe round {round_} loss {opt.step(closure).item():.4f}")
with torch.no_grad():
    acc = (probe((test_f - mean) / std).argmax(1) == test_y).float().mean().item()
print(f"held-out accuracy {acc:.3f}")
