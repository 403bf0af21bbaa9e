"""Small CNN for textures; the weights served are an exponential moving average of the trained ones."""
import copy
import math

import torch
import torch.nn as nn
import torch.nn.functional as F


class EMA:
    def __init__(self, model, decay=0.98):
        self.decay = decay
        self.shadow = copy.deepcopy(model).eval()
        self.shadow.requires_grad_(False)

    @torch.no_grad()
    def update(self, model):
        for e, p in zip(self.shadow.parameters(), model.parameters()):
            e.mul_(self.decay).add_(p.detach(), alpha=1 - self.decay)


def textures(n, g):
    y = torch.randint(0, 5, (n,), generator=g)
    yy, xx = torch.meshgrid(torch.arange(20.), torch.arange(20.), indexing="ij")
    angle = (y * math.pi / 5).view(-1, 1, 1)
    f = 0.9 + 0.3 * torch.rand(n, 1, 1, generator=g)
    ph = 6.28 * torch.rand(n, 1, 1, generator=g)
    im = torch.sin(f * (xx * angle.cos() + yy * angle.sin()) + ph)
    im = im + 0.8 * torch.randn(n, 20, 20, generator=g)
    return (im * 30 + 120).unsqueeze(1), y


def block(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU())


def accuracy(m, x, y):
    m.eval()
    with torch.no_grad():
        return (m(x).argmax(1) == y).float().mean().item()


g = torch.Generator().manual_seed(0)
torch.manual_seed(0)
x, y = textures(1500, g)
xt, yt = textures(400, g)
x, xt = x / 255, xt / 255
model = nn.Sequential(block(1, 16), nn.MaxPool2d(2), block(16, 24), block(24, 24), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
                      nn.Linear(24, 5))
ema = EMA(model)
opt = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, nesterov=True)
epochs, bs = 5, 32
total = epochs * math.ceil(len(x) / bs)
sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min((s + 1) / 20, max(0.0, 1 - s / total)))
for epoch in range(epochs):
    model.train()
    for i in torch.randperm(len(x)).split(bs):
        loss = F.cross_entropy(model(x[i]), y[i], label_smoothing=0.05)
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        ema.update(model)
    print(f"epoch {epoch} loss {loss.item():.3f}")
torch.save(ema.shadow.state_dict(), "served.pt")
print(f"test accuracy of the averaged model {accuracy(ema.shadow, xt, yt):.3f}")
