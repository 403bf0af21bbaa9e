"""Byte LM with two optimizers (orthogonalised momentum for matrices, AdamW for the rest), linear decay to zero, weight EMA."""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(23)
torch.manual_seed(23)
V, T, D, H = 128, 64, 64, 4


def article():
    who = random.choice(["ministers", "farmers", "students", "drivers"])
    what = random.choice(["asked for", "voted on", "talked about", "rejected"])
    return f"{who} {what} the {random.choice(['new', 'old', 'second'])} {random.choice(['plan', 'law', 'road', 'tax'])} on {random.choice(['monday', 'friday'])}. "


def to_ids(n):
    return torch.tensor(list("".join(article() for _ in range(n)).encode()), dtype=torch.long)


train_ids, val_ids = to_ids(1500), to_ids(80)


class Muon(torch.optim.Optimizer):
    def __init__(self, params, lr=0.02, momentum=0.9):
        super().__init__(params, dict(lr=lr, momentum=momentum))

    @torch.no_grad()
    def step(self, closure=None):
        for g in self.param_groups:
            for p in g["params"]:
                if p.grad is None:
                    continue
                buf = self.state[p].setdefault("buf", torch.zeros_like(p))
                buf.lerp_(p.grad, 1 - g["momentum"])
                u = p.grad.lerp(buf, g["momentum"])
                p.add_(self.orthogonalise(u), alpha=-g["lr"] * max(1, p.size(0) / p.size(1)) ** 0.5)

    @staticmethod
    def orthogonalise(G, steps=5):
        X = G / (G.norm() + 1e-7)
        flip = G.size(0) > G.size(1)
        X = X.T if flip else X
        for _ in range(steps):
            A = X @ X.T
            X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
        return X.T if flip else X


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.Linear(D, D, bias=False) for _ in range(4))
        self.up, self.down = nn.Linear(D, 4 * D, bias=False), nn.Linear(4 * D, D, bias=False)
        nn.init.zeros_(self.o.weight)
        nn.init.zeros_(self.down.weight)

    def forward(self, x):
        B, N, _ = x.shape
        h = F.rms_norm(x, (D,))
        q, k, v = (m(h).view(B, N, H, D // H).transpose(1, 2) for m in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(F.rms_norm(q, (D // H,)), F.rms_norm(k, (D // H,)), v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).flatten(2))
        return x + self.down(F.relu(self.up(F.rms_norm(x, (D,)))).square())


class ByteLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.pos = nn.Embedding(V, D), nn.Embedding(T, D)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.head = nn.Linear(D, V, bias=False)
        nn.init.normal_(self.emb.weight, std=0.02)
        nn.init.normal_(self.pos.weight, std=0.02)
        self.head.weight = self.emb.weight

    def forward(self, ids):
        x = self.emb(ids) + self.pos.weight[: ids.size(1)]
        for b in self.blocks:
            x = b(x)
        return 15 * torch.tanh(self.head(F.rms_norm(x, (D,))) / 15)


def batch(ids, n=24):
    ix = torch.randint(0, len(ids) - T - 1, (n,))
    w = torch.stack([ids[i:i + T + 1] for i in ix])
    return w[:, :-1], w[:, 1:]


model = ByteLM()
ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=torch.optim.swa_utils.get_ema_multi_avg_fn(0.95))
matrices = [p for p in model.blocks.parameters() if p.ndim == 2]
others = [model.emb.weight, model.pos.weight]
assert sum(p.numel() for p in matrices + others) == sum(p.numel() for p in model.parameters())
optimizers = [Muon(matrices), torch.optim.AdamW(others, lr=3e-3, betas=(0.9, 0.95), weight_decay=0.0)]
steps = 200
schedulers = [torch.optim.lr_scheduler.LambdaLR(o, lambda s: min(1.0, (s + 1) / 10) * max(0.0, min(1.0, (steps - s) / 120))) for o in optimizers]


@torch.no_grad()
def val(m, n=6):
    m.eval()
    rng = torch.get_rng_state()
    torch.manual_seed(0)
    out = sum(F.cross_entropy(m(x).flatten(0, 1), y.flatten()).item() for x, y in (batch(val_ids) for _ in range(n))) / n
    torch.set_rng_state(rng)
    m.train()
    return out


for step in range(steps):
    x, y = batch(train_ids)
    loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten())
    loss.backward()
    for o, s in zip(optimizers, schedulers):
        o.step()
        s.step()
    model.zero_grad(set_to_none=True)
    ema.update_parameters(model)
    if step % 40 == 0 or step == steps - 1:
        print(f"step {step:3d} train {loss.item():.3f} val {val(model):.3f} val(ema) {val(ema):.3f} lr {schedulers[1].get_last_lr()[0]:.5f}")
print(f"bits per byte {val(ema) / math.log(2):.3f}, final lr {schedulers[0].get_last_lr()[0]}")
