"""Sentiment classifier trained on one domain, made domain invariant with gradient reversal; input gradient penalty on top.

The domain head is supposed to end near chance, its loss rises towards log(2) while training goes well.
"""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(41)
torch.manual_seed(41)
GOOD, BAD = list(range(1, 11)), list(range(11, 21))
BOOK, PHONE = list(range(21, 41)), list(range(41, 61))
NEUTRAL = list(range(61, 80))
V, LEN = 80, 16


def doc(domain, label):
    """in books, the label also goes with some book words; phones do not share that shortcut"""
    w = random.choices(GOOD if label else BAD, k=3) + random.choices(BAD if label else GOOD, k=1)
    if domain == 0:
        w += random.choices(BOOK[:10] if (label == 1) == (random.random() < 0.8) else BOOK[10:], k=5)
    else:
        w += random.choices(PHONE, k=5)
    w += random.choices(NEUTRAL, k=LEN - len(w))
    random.shuffle(w)
    return w


def batch(domain, n):
    y = [random.randint(0, 1) for _ in range(n)]
    return torch.tensor([doc(domain, t) for t in y]), torch.tensor(y)


class GradReverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, lam):
        ctx.lam = lam
        return x.view_as(x)

    @staticmethod
    def backward(ctx, g):
        return -ctx.lam * g, None


class Model(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.emb = nn.Embedding(V, d)
        self.feat = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU())
        self.label_head = nn.Linear(d, 2)
        self.domain_head = nn.Sequential(nn.Linear(d, d), nn.ReLU(), nn.Linear(d, 2))

    def features(self, emb):
        return self.feat(emb.mean(1) * 4)


model = Model()
main_params = [*model.emb.parameters(), *model.feat.parameters(), *model.label_head.parameters()]
opt = torch.optim.Adam(main_params, lr=1e-3)
opt_domain = torch.optim.Adam(model.domain_head.parameters(), lr=3e-3)      # the critic learns faster
steps = 700


@torch.no_grad()
def accuracy(domain):
    model.eval()
    x, y = batch(domain, 500)
    acc = (model.label_head(model.features(model.emb(x))).argmax(-1) == y).float().mean().item()
    model.train()
    return acc


for step in range(steps):
    lam = 2 / (1 + math.exp(-6 * step / steps)) - 1
    xs, ys = batch(0, 32)
    xt, _ = batch(1, 32)                                    # target labels are not used
    emb_s, emb_t = model.emb(xs), model.emb(xt)
    fs, ft = model.features(emb_s), model.features(emb_t)
    cls = F.cross_entropy(model.label_head(fs), ys, label_smoothing=0.05)
    grad_in, = torch.autograd.grad(cls, emb_s, create_graph=True)
    penalty = (grad_in.flatten(1).norm(dim=1) * len(xs)).pow(2).mean()
    dom = F.cross_entropy(model.domain_head(GradReverse.apply(torch.cat([fs, ft]), lam)),
                          torch.tensor([0] * len(fs) + [1] * len(ft)))
    loss = cls + 0.02 * penalty + dom
    opt.zero_grad()
    opt_domain.zero_grad()
    loss.backward()
    opt.step()
    opt_domain.step()
    if step % 100 == 0 or step == steps - 1:
        print(f"step {step:3d} label loss {cls.item():.3f} penalty {penalty.item():.3f} domain loss {dom.item():.3f} lambda {lam:.2f}")
print(f"accuracy: books {accuracy(0):.3f}, phones (no labels seen) {accuracy(1):.3f}; log 2 = {math.log(2):.3f}")
