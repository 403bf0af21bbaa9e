"""Semi-supervised mean teacher: 24 labelled and 1500 unlabelled little images (label -1 = not known)."""
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)


def images(n):
    y = torch.randint(0, 4, (n,))
    yy, xx = torch.meshgrid(torch.arange(12.), torch.arange(12.), indexing="ij")
    cx, cy = (3 + 5 * torch.rand(2, n, 1, 1)).unbind(0)
    dx, dy = xx - cx, yy - cy
    r = (dx ** 2 + dy ** 2).sqrt()
    all_kinds = torch.stack([(r < 2.6).float(), ((r > 1.8) & (r < 3.2)).float(),
                             ((dx.abs() < 0.8) | (dy.abs() < 0.8)).float() * (r < 3.6), ((dx.abs() + dy.abs() - 3).abs() < 0.8).float()], 1)
    im = all_kinds[torch.arange(n), y]
    return (im + 0.3 * torch.randn(n, 12, 12)).unsqueeze(1), y


def augment(x):
    if torch.rand(()) < 0.5:
        x = x.flip(-1)
    s = torch.randint(-2, 3, (2,)).tolist()
    return torch.roll(x, s, (-2, -1)) + 0.1 * torch.randn_like(x)


def net():
    return nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.ReLU(), nn.MaxPool2d(2),
                         nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.ReLU(), nn.AdaptiveMaxPool2d(1), nn.Flatten(),
                         nn.Linear(32, 4))


def acc(m, x, y):
    m.eval()
    with torch.no_grad():
        return (m(x).argmax(1) == y).float().mean().item()


x, y = images(1524)
y[24:] = -1
xt, yt = images(800)
student = net()
teacher = copy.deepcopy(student).requires_grad_(False)
opt = torch.optim.AdamW(student.parameters(), lr=3e-3, weight_decay=1e-3)
STEPS = 350
for step in range(STEPS):
    student.train()
    i = torch.cat([torch.randint(24, (20,)), 24 + torch.randint(1500, (44,))])
    logits = student(augment(x[i]))
    with torch.no_grad():
        target = teacher(augment(x[i])).softmax(-1)
    sup = F.cross_entropy(logits, y[i], ignore_index=-1)
    cons = (logits.softmax(-1) - target).pow(2).sum(-1).mean()
    ramp = math.exp(-5 * (1 - min(1, step / 120)) ** 2)
    loss = sup + 0.5 * ramp * cons
    opt.zero_grad()
    loss.backward()
    opt.step()
    with torch.no_grad():
        decay = min(0.97, 1 - 1 / (step + 2))
        for t, s in zip(teacher.parameters(), student.parameters()):
            t.lerp_(s, 1 - decay)
    if step % 70 == 0:
        print(f"{step} supervised {sup.item():.3f} consistency {cons.item():.4f}")
alone = net()
opt = torch.optim.AdamW(alone.parameters(), lr=3e-3, weight_decay=1e-3)
for _ in range(STEPS):
    i = torch.randint(24, (20,))
    opt.zero_grad()
    F.cross_entropy(alone(augment(x[i])), y[i]).backward()
    opt.step()
print(f"test accuracy: teacher {acc(teacher, xt, yt):.3f} student {acc(student, xt, yt):.3f} labelled only {acc(alone, xt, yt):.3f}")
