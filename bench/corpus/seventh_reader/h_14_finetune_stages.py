"""Two-task fine-tuning in stages: frozen backbone, then gradual unfreezing, in mixed precision.

Task A (kind of texture) is trained from the start, task B (its frequency) joins in stage 2.
BatchNorm of the pretrained backbone keeps its statistics during fine-tuning.
"""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def textures(n, seed, n_angles=4, shift=0.0):
    rng = np.random.default_rng(seed)
    yy, xx = np.mgrid[0:20, 0:20]
    a = rng.integers(0, n_angles, n)
    f = rng.uniform(0.5, 1.5, n)
    th = (np.pi * a / n_angles + shift + rng.normal(0, 0.05, n))[:, None, None]
    x = np.sin(f[:, None, None] * (xx * np.cos(th) + yy * np.sin(th)) + rng.uniform(0, 6.28, (n, 1, 1)))
    x = x + rng.normal(0, 0.4, x.shape)
    return (torch.tensor(x, dtype=torch.float32)[:, None], torch.from_numpy(a),
            torch.tensor((f - 1.0) / 0.29, dtype=torch.float32))


class Net(nn.Module):
    def __init__(self, n_classes):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, 16, 5, padding=2), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2))
        self.stage = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
                                   nn.Conv2d(32, 48, 3, padding=1), nn.BatchNorm2d(48), nn.ReLU())
        self.kind = nn.Linear(48, n_classes)
        self.freq = nn.Sequential(nn.Linear(48, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        h = self.stage(self.stem(x)).mean((2, 3))
        return self.kind(h), self.freq(h).squeeze(1)


def freeze_bn(net):
    net.train()
    for m in net.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.eval()


def report(net, tag, data):
    net.eval()
    with torch.no_grad():
        k, f = net(data[0])
    acc = (k.argmax(1) == data[1]).float().mean().item()
    print(f"{tag}  kind acc {acc:.3f}  freq mse {F.mse_loss(f, data[2]).item():.3f}")


def epoch(net, opt, data, scaler, with_freq, batch=32, bn_frozen=True):
    freeze_bn(net) if bn_frozen else net.train()
    total = 0.0
    for idx in torch.randperm(len(data[0])).split(batch):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            kind, freq = net(data[0][idx])
        loss = F.cross_entropy(kind.float(), data[1][idx])
        if with_freq:
            loss = loss + F.smooth_l1_loss(freq.float(), data[2][idx])
        opt.zero_grad(set_to_none=True)
        scaler.scale(loss).backward()
        scaler.unscale_(opt)
        nn.utils.clip_grad_norm_([p for g in opt.param_groups for p in g["params"]], 2.0)
        scaler.step(opt)
        scaler.update()
        total += loss.item() * len(idx)
    return total / len(data[0])


def main():
    torch.manual_seed(0)
    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0, growth_interval=50)
    source = textures(1200, 0, n_angles=8)
    net = Net(8)
    opt = torch.optim.Adam([*net.stem.parameters(), *net.stage.parameters(), *net.kind.parameters()], lr=3e-3)
    for e in range(1, 6):
        print(f"pretrain epoch {e}  loss {epoch(net, opt, source, scaler, with_freq=False, bn_frozen=False):.4f}")

    train, test = textures(400, 1, shift=0.25), textures(500, 2, shift=0.25)
    net.kind = nn.Linear(48, 4)
    nn.init.zeros_(net.kind.weight)
    nn.init.zeros_(net.kind.bias)

    net.requires_grad_(False)
    net.kind.requires_grad_(True)
    opt = torch.optim.Adam(net.kind.parameters(), lr=1e-2)
    for e in range(1, 6):
        loss = epoch(net, opt, train, scaler, with_freq=False)
        print(f"stage 1 epoch {e}  loss {loss:.4f}  (scale {scaler.get_scale():.0f})")
    report(net, "after stage 1", test)

    net.freq.requires_grad_(True)
    opt.add_param_group({"params": net.freq.parameters(), "lr": 5e-3})
    for e in range(1, 6):
        print(f"stage 2 epoch {e}  loss {epoch(net, opt, train, scaler, with_freq=True):.4f}")
    report(net, "after stage 2", test)

    net.stage.requires_grad_(True)
    opt.add_param_group({"params": net.stage.parameters(), "lr": 5e-4})
    decay = torch.optim.lr_scheduler.LinearLR(opt, 1.0, 0.0, total_iters=8)
    for e in range(1, 9):
        print(f"stage 3 epoch {e}  loss {epoch(net, opt, train, scaler, with_freq=True):.4f}  lr {opt.param_groups[-1]['lr']:.1e}")
        decay.step()
    report(net, "after stage 3", test)


if __name__ == "__main__":
    main()
