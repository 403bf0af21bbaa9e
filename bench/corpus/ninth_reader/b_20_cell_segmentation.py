"""4-class segmentation (background, membrane, cytoplasm, nucleus) of synthetic cells, resized 48 -> 32."""
import torch
import torch.nn as nn
import torch.nn.functional as F


def cells(n, size=48):
    yy, xx = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    mask = torch.zeros(n, size, size, dtype=torch.long)
    for k in range(n):
        for _ in range(3):
            cy, cx = (torch.rand(2) * 36 + 6).tolist()
            r = 5 + 4 * torch.rand(()).item()
            d = ((yy - cy) ** 2 + (xx - cx) ** 2).sqrt()
            mask[k][d < r] = 3                # membrane ring
            mask[k][d < r - 2] = 1            # cytoplasm
            mask[k][d < r * 0.35] = 2         # nucleus
    tone = torch.tensor([0.0, 0.45, 1.0, 0.75])
    img = tone[mask] + 0.18 * torch.randn(n, size, size)
    return img.unsqueeze(1), mask


class ResizeTo:
    def __init__(self, size):
        self.size = size

    def __call__(self, img, mask):
        img = F.interpolate(img, size=self.size, mode="bilinear", align_corners=False)
        mask = F.interpolate(mask.unsqueeze(1).float(), size=self.size, mode="bilinear", align_corners=False)
        return img, mask.squeeze(1).long()


class SmallUNet(nn.Module):
    def __init__(self, c=16):
        super().__init__()
        def conv(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU())
        self.d1, self.d2, self.u = conv(1, c), conv(c, 2 * c), conv(3 * c, c)
        self.head = nn.Conv2d(c, 4, 1)

    def forward(self, x):
        a = self.d1(x)
        b = F.interpolate(self.d2(F.max_pool2d(a, 2)), scale_factor=2)
        return self.head(self.u(torch.cat([a, b], 1)))


def iou(pred, truth):
    return sum(((pred == c) & (truth == c)).sum().item() / max(1, ((pred == c) | (truth == c)).sum().item())
               for c in range(4)) / 4


torch.manual_seed(10)
x, m = ResizeTo(32)(*cells(320))
raw_img, raw_mask = cells(60)          # scored at the original resolution
net = SmallUNet()
opt = torch.optim.AdamW(net.parameters(), lr=4e-3)
for epoch in range(8):
    net.train()
    for i in torch.randperm(len(x)).split(16):
        loss = F.cross_entropy(net(x[i]), m[i])
        opt.zero_grad(); loss.backward(); opt.step()
    print(f"epoch {epoch} loss {loss.item():.3f}")
net.eval()
with torch.no_grad():
    small = F.interpolate(raw_img, size=32, mode="bilinear", align_corners=False)
    pred = F.interpolate(net(small), size=48, mode="bilinear", align_corners=False).argmax(1)
print(f"METRIC mean_iou {iou(pred, raw_mask):.3f}")
