"""Image classifier with bf16 autocast, label smoothing, mixup and an EMA copy used for evaluation."""
import torch
import torch.nn as nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
protos = torch.randn(8, 1, 12, 12)

def make(n):
    y = torch.randint(0, 8, (n,))
    x = protos[y] * (0.5 + torch.rand(n, 1, 1, 1)) + 1.6 * torch.randn(n, 1, 12, 12)
    return x, y

x_tr, y_tr = make(2000)
x_te, y_te = make(800)
loader = DataLoader(TensorDataset(x_tr, y_tr), batch_size=50, shuffle=True)

net = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.GroupNorm(4, 16), nn.SiLU(), nn.MaxPool2d(2),
                    nn.Conv2d(16, 32, 3, padding=1), nn.GroupNorm(4, 32), nn.SiLU(),
                    nn.Flatten(), nn.Linear(32 * 36, 8))
ema = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.98))
loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4)
epochs = 8
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=0.05, total_steps=epochs * len(loader))

@torch.no_grad()
def accuracy(m):
    m.eval()
    return (m(x_te).argmax(1) == y_te).float().mean().item()

for epoch in range(epochs):
    net.train()
    for x, y in loader:
        lam = torch.distributions.Beta(0.2, 0.2).sample().item()
        perm = torch.randperm(len(x))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = net(lam * x + (1 - lam) * x[perm])
            loss = lam * loss_fn(logits, y) + (1 - lam) * loss_fn(logits, y[perm])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sched.step()
        ema.update_parameters(net)
    print(f"epoch {epoch + 1} loss {loss.item():.3f} net {accuracy(net):.3f} ema {accuracy(ema):.3f}")
