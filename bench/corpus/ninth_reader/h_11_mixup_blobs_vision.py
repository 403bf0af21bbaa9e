"""Mixup: the labels are fractions, the training loss stays high and train accuracy is below the test accuracy."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(20)
C = 5
proto = F.interpolate(torch.randn(C, 1, 6, 6), size=16, mode="bilinear")


def images(n):
    y = torch.randint(0, C, (n,))
    x = proto[y] + 1.0 * torch.randn(n, 1, 16, 16)
    shift = torch.randint(-2, 3, (n,))
    x = torch.stack([torch.roll(a, int(s), -1) for a, s in zip(x, shift)])
    return x, y


x, y = images(2000)
xt, yt = images(600)
net = nn.Sequential(nn.Conv2d(1, 16, 5, 2, 2), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1),
                    nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(512, C))
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 5)
beta = torch.distributions.Beta(0.6, 0.6)
for epoch in range(5):
    net.train()
    for i in torch.randperm(len(x)).split(50):
        lam = beta.sample()
        j = i[torch.randperm(len(i))]
        mixed = lam * x[i] + (1 - lam) * x[j]
        soft = lam * F.one_hot(y[i], C) + (1 - lam) * F.one_hot(y[j], C)
        logits = net(mixed)
        loss = -(soft * logits.log_softmax(1)).sum(1).mean()
        opt.zero_grad(); loss.backward(); opt.step()
    sched.step()
    print(epoch, f"loss {loss.item():.3f} train acc {(logits.argmax(1) == y[i]).float().mean():.3f}")
net.eval()
with torch.no_grad():
    print(f"METRIC test_acc {(net(xt).argmax(1) == yt).float().mean():.3f} (chance 0.2)")
