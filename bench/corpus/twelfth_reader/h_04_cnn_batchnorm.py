"""CNN with batch norm, dropout and flip augmentation on coloured textures."""
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(3)

def make(n):
    y = torch.randint(0, 6, (n,))
    g = torch.arange(20).float()
    xs = []
    for k in y.tolist():
        f = 0.5 + 0.25 * (k % 3)
        phase = torch.rand(1) * 6.28
        wave = torch.sin(f * g + phase)
        img = wave[None, :].expand(20, 20) if k < 3 else wave[:, None].expand(20, 20)
        xs.append(img[None] * (0.5 + torch.rand(3, 1, 1)))
    x = torch.stack(xs)
    return x + 0.8 * torch.randn_like(x), y

x_tr, y_tr = make(2400)
x_va, y_va = make(600)
mu, sd = x_tr.mean((0, 2, 3), keepdim=True), x_tr.std((0, 2, 3), keepdim=True)
train = DataLoader(TensorDataset((x_tr - mu) / sd, y_tr), batch_size=64, shuffle=True, drop_last=True)
val = DataLoader(TensorDataset((x_va - mu) / sd, y_va), batch_size=200)

net = nn.Sequential(
    nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2),
    nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.AdaptiveAvgPool2d(2),
    nn.Flatten(), nn.Dropout(0.2), nn.Linear(128, 6))
opt = torch.optim.AdamW(net.parameters(), lr=2e-3, weight_decay=1e-2)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, T_max=8)
loss_fn = nn.CrossEntropyLoss()

for epoch in range(8):
    net.train()
    total = 0.0
    for x, y in train:
        if torch.rand(1) < 0.5:
            x = x.flip(-1)
        opt.zero_grad()
        loss = loss_fn(net(x), y)
        loss.backward()
        opt.step()
        total += loss.item()
    sched.step()
    net.eval()
    with torch.no_grad():
        acc = sum((net(x).argmax(1) == y).sum().item() for x, y in val) / len(y_va)
    print(f"epoch {epoch + 1} loss {total / len(train):.3f} val acc {acc:.3f}")
