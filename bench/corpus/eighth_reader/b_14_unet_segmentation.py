"""Small U-Net for segmenting bright cells in noisy microscopy-like images."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.optim.lr_scheduler import StepLR
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
S = 32
yy, xx = torch.meshgrid(torch.arange(S), torch.arange(S), indexing="ij")


def cells(n):
    imgs, masks = [], []
    for _ in range(n):
        m = torch.zeros(S, S, dtype=torch.bool)
        for _ in range(int(torch.randint(1, 5, (1,)))):
            cy, cx = torch.randint(4, S - 4, (2,)).tolist()
            r = 2 + 3 * torch.rand(1).item()
            m |= (yy - cy) ** 2 + (xx - cx) ** 2 < r * r
        imgs.append(0.8 * m + 0.3 * (xx / S) + 0.6 * torch.randn(S, S))
        masks.append(m.float())
    return torch.stack(imgs).unsqueeze(1).float(), torch.stack(masks).unsqueeze(1)


def conv(i, o):
    return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(),
                         nn.Conv2d(o, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.d1, self.d2, self.mid = conv(1, 8), conv(8, 16), conv(16, 32)
        self.u2, self.u1 = conv(48, 16), conv(24, 8)
        self.out = nn.Conv2d(8, 1, 1)

    def forward(self, x):
        a = self.d1(x)
        b = self.d2(F.max_pool2d(a, 2))
        m = self.mid(F.max_pool2d(b, 2))
        m = self.u2(torch.cat([F.interpolate(m, scale_factor=2), b], 1))
        m = self.u1(torch.cat([F.interpolate(m, scale_factor=2), a], 1))
        return self.out(m)


train_loader = DataLoader(TensorDataset(*cells(192)), batch_size=16, shuffle=True)
val_loader = DataLoader(TensorDataset(*cells(80)), batch_size=40)
model = UNet()
optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
scheduler = StepLR(optimizer, step_size=5, gamma=0.1)


@torch.no_grad()
def dice():
    model.eval()
    inter = union = 0.0
    for x, m in val_loader:
        p = (model(x) > 0).float()
        inter += (p * m).sum().item()
        union += (p.sum() + m.sum()).item()
    return 2 * inter / max(union, 1.0)


for epoch in range(7):
    model.train()
    total = 0.0
    for x, m in train_loader:
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(model(x), m)
        loss.backward()
        optimizer.step()
        scheduler.step()
        total += loss.item()
    print(f"epoch {epoch + 1}/7  loss {total / len(train_loader):.4f}  val dice {dice():.3f}")
torch.save(model.state_dict(), "/tmp/b14_unet.pt")
