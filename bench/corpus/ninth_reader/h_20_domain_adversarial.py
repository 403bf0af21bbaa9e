"""Domain-adversarial training: a layer flips the gradient's sign on purpose, and the domain loss must NOT go down."""
import math
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(40)
M, SHIFT = torch.randn(4, 10), torch.randn(10)
SHIFT = 3.0 * SHIFT / SHIFT.norm()


def domain(n, target):
    z = torch.randn(n, 4)
    y = (z[:, 0] * z[:, 1] > 0).long() + 2 * (z[:, 2] > 0).long()
    x = z @ M + 0.2 * torch.randn(n, 10)
    return (x + SHIFT if target else x), y


class Flip(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, w):
        ctx.w = w
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.w * g, None


def train(adversarial):
    torch.manual_seed(41)
    feat = nn.Sequential(nn.Linear(10, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
    cls = nn.Linear(32, 4)
    dom = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
    opt = torch.optim.Adam([*feat.parameters(), *cls.parameters(), *dom.parameters()], lr=4e-3)
    total = 150
    for step in range(total):
        i, j = torch.randint(len(xs), (64,)), torch.randint(len(xu), (64,))
        h = feat(torch.cat([xs[i], xu[j]]))
        task = F.cross_entropy(cls(h[:64]), ys[i])
        w = (2 / (1 + math.exp(-6 * step / total)) - 1) if adversarial else 0.0
        d = torch.cat([torch.zeros(64), torch.ones(64)])
        dl = F.binary_cross_entropy_with_logits(dom(Flip.apply(h, w)).squeeze(1), d)
        opt.zero_grad(); (task + dl).backward(); opt.step()
        if step % 50 == 0:
            print(step, f"task {task.item():.3f} domain {dl.item():.3f}")
    with torch.no_grad():
        return (cls(feat(xt)).argmax(1) == yt).float().mean().item()


xs, ys = domain(3000, False)
xu, _ = domain(3000, True)               # unlabelled target domain
xt, yt = domain(1500, True)
plain = train(False)
dann = train(True)
print(f"METRIC target_acc adversarial {dann:.3f} (source only {plain:.3f}, chance 0.25)")
