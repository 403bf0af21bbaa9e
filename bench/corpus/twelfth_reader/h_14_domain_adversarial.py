"""Domain-adversarial training: labels only in the source domain, evaluation on the target domain."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
W = torch.randn(3, 10)

def domain(n, shift):
    y = torch.randint(0, 3, (n,))
    x = torch.cat([W[y] + 0.7 * torch.randn(n, 10), torch.randn(n, 6) + shift], 1)
    if shift == 0:
        x[:, 10:13] += 2 * F.one_hot(y, 3)
    return x, y

xs, ys = domain(2000, 0.0)
xt, yt = domain(2000, 1.0)
xt_test, yt_test = domain(1000, 1.0)

class Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lam):
        ctx.lam = lam
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.lam * g, None

feat = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 32), nn.ReLU())
clf = nn.Linear(32, 3)
disc = nn.Sequential(nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 1))
params = [*feat.parameters(), *clf.parameters(), *disc.parameters()]
opt = torch.optim.Adam(params, lr=1e-3)
steps = 1500

for step in range(steps):
    i, j = torch.randint(0, 2000, (64,)), torch.randint(0, 2000, (64,))
    lam = 2 / (1 + torch.exp(torch.tensor(-10.0 * step / steps))).item() - 1
    fs, ft = feat(xs[i]), feat(xt[j])
    cls_loss = F.cross_entropy(clf(fs), ys[i])
    d = disc(Reverse.apply(torch.cat([fs, ft]), 0.5 * lam)).squeeze(1)
    dom_loss = F.binary_cross_entropy_with_logits(d, torch.cat([torch.ones(64), torch.zeros(64)]))
    opt.zero_grad()
    (cls_loss + dom_loss).backward()
    opt.step()
    if step % 300 == 299:
        with torch.no_grad():
            acc = (clf(feat(xt_test)).argmax(1) == yt_test).float().mean().item()
        print(f"step {step + 1} cls {cls_loss.item():.3f} dom {dom_loss.item():.3f} target acc {acc:.3f}")
