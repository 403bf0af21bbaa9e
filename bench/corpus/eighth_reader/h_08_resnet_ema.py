"""Small residual CNN, SGD + OneCycle, flip/shift augmentation, label smoothing and an EMA copy for evaluation."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
PROTO = F.interpolate(torch.randn(8, 3, 5, 5), size=20, mode="bilinear")


def make(n):
    y = torch.randint(0, 8, (n,))
    return (PROTO[y] + 0.9 * torch.randn(n, 3, 20, 20)), y


class Images(Dataset):
    def __init__(self, n, augment):
        self.x, self.y = make(n)
        self.augment = augment

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        x = self.x[i]
        if self.augment:
            x = torch.roll(x, tuple(torch.randint(-2, 3, (2,)).tolist()), (1, 2))
        return x, self.y[i]


class Res(nn.Module):
    def __init__(self, i, o, s):
        super().__init__()
        self.c1, self.b1 = nn.Conv2d(i, o, 3, s, 1, bias=False), nn.BatchNorm2d(o)
        self.c2, self.b2 = nn.Conv2d(o, o, 3, 1, 1, bias=False), nn.BatchNorm2d(o)
        self.skip = nn.Sequential() if (i == o and s == 1) else nn.Conv2d(i, o, 1, s, bias=False)

    def forward(self, x):
        h = F.relu(self.b1(self.c1(x)))
        return F.relu(self.b2(self.c2(h)) + self.skip(x))


model = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), Res(12, 12, 1), Res(12, 24, 2), nn.AdaptiveAvgPool2d(4),
                      nn.Flatten(), nn.Linear(24 * 16, 8))
ema = copy.deepcopy(model).requires_grad_(False).eval()


@torch.no_grad()
def update_ema(decay):
    for e, p in zip(ema.parameters(), model.parameters()):
        e.lerp_(p, 1 - decay)
    for e, b in zip(ema.buffers(), model.buffers()):
        e.copy_(b)


@torch.no_grad()
def accuracy(net, loader):
    net.eval()
    return sum((net(x).argmax(1) == y).sum().item() for x, y in loader) / len(loader.dataset)


train_dl = DataLoader(Images(960, True), batch_size=48, shuffle=True)
test_dl = DataLoader(Images(320, False), batch_size=160)
EPOCHS = 5
opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.05, total_steps=EPOCHS * len(train_dl))
crit = nn.CrossEntropyLoss(label_smoothing=0.1)
for epoch in range(EPOCHS):
    model.train()
    tot = 0.0
    for x, y in train_dl:
        loss = crit(model(x), y)
        opt.zero_grad(set_to_none=True)
        loss.backward()
        opt.step()
        sched.step()
        update_ema(0.9)
        tot += loss.item()
    print(f"epoch {epoch + 1} loss {tot / len(train_dl):.3f} acc {accuracy(model, test_dl):.3f} "
          f"ema acc {accuracy(ema, test_dl):.3f}")
torch.save({"model": model.state_dict(), "ema": ema.state_dict()}, "/tmp/h08_ckpt.pt")
