"""Multi-task tabular net (price + sold-within-a-month), then adapt to a new city with a 12-class district head."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(42)
D = 12
W = torch.randn(D, 6)


def latent(x):
    return torch.tanh(x @ W * 0.5)


def old_city(n):
    x = torch.randn(n, D)
    z = latent(x)
    return x, z[:, :3].sum(1) + 0.1 * torch.randn(n), (z[:, 3] * z[:, 4] > 0).float()


VD = torch.randn(6, 12) * 2


def new_city(n):
    x = torch.randn(n, D)
    district = (latent(x) @ VD + 0.3 * torch.randn(n, 12)).argmax(1)
    return x, district


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(D, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.heads = nn.ModuleDict({"price": nn.Linear(64, 1), "sold": nn.Linear(64, 1)})

    def forward(self, x, task):
        return self.heads[task](self.trunk(x))


net = Net()
optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)

x, price, sold = old_city(3000)
for epoch in range(3):
    for i in torch.randperm(3000).split(64):
        loss = (F.mse_loss(net(x[i], "price").squeeze(-1), price[i])
                + F.binary_cross_entropy_with_logits(net(x[i], "sold").squeeze(-1), sold[i]))
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    print("old city", epoch, round(loss.item(), 3))

# new city: gentler steps for the pretrained trunk
net.heads["district"] = nn.Linear(64, 12)
for group in optimizer.param_groups:
    group["lr"] = 3e-4
x, y = new_city(1200)
xt, yt = new_city(1500)
for epoch in range(8):
    for i in torch.randperm(1200).split(64):
        loss = F.cross_entropy(net(x[i], "district"), y[i])
        optimizer.zero_grad(); loss.backward(); optimizer.step()
    if epoch % 3 == 0:
        print("new city", epoch, round(loss.item(), 3))
with torch.no_grad():
    print(f"METRIC district_acc {(net(xt, 'district').argmax(1) == yt).float().mean():.3f}")
