"""Selective state space LM (Mamba-like) with a hand-written scan and its own backward, trained with warm restarts."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(29)
V, D, N, T = 16, 48, 4, 24


class Scan(torch.autograd.Function):
    """h_t = a_t * h_{t-1} + b_t along dim 1"""

    @staticmethod
    def forward(ctx, a, b):
        h = torch.zeros_like(b[:, 0])
        out = []
        for t in range(b.size(1)):
            h = a[:, t] * h + b[:, t]
            out.append(h)
        hs = torch.stack(out, 1)
        ctx.save_for_backward(a, hs)
        return hs

    @staticmethod
    def backward(ctx, g):
        a, hs = ctx.saved_tensors
        ga, gb = torch.zeros_like(a), torch.zeros_like(hs)
        acc = torch.zeros_like(hs[:, 0])
        for t in reversed(range(hs.size(1))):
            acc = acc + g[:, t]
            gb[:, t] = acc
            if t > 0:
                ga[:, t] = acc * hs[:, t - 1]
            acc = acc * a[:, t]
        return ga, gb


class SSMBlock(nn.Module):
    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(D)
        self.inp = nn.Linear(D, 2 * D)
        self.conv = nn.Conv1d(D, D, 3, padding=2, groups=D)
        self.dt, self.BC = nn.Linear(D, D), nn.Linear(D, 2 * N)
        self.A_log = nn.Parameter(torch.log(torch.arange(1, N + 1).float()).repeat(D, 1))
        self.skip, self.out = nn.Parameter(torch.ones(D)), nn.Linear(D, D)
        nn.init.constant_(self.dt.bias, -2.0)

    def forward(self, x):
        u, z = self.inp(self.norm(x)).chunk(2, -1)
        u = F.silu(self.conv(u.transpose(1, 2))[..., : x.size(1)].transpose(1, 2))
        dt = F.softplus(self.dt(u))
        Bm, Cm = self.BC(u).chunk(2, -1)
        a = torch.exp(-dt.unsqueeze(-1) * self.A_log.exp())
        b = (dt * u).unsqueeze(-1) * Bm.unsqueeze(2)
        h = Scan.apply(a, b)
        y = (h * Cm.unsqueeze(2)).sum(-1) + self.skip * u
        return x + self.out(y * F.silu(z))


class SSMLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, D)
        self.blocks = nn.ModuleList([SSMBlock(), SSMBlock()])
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, V)

    def forward(self, ids):
        x = self.emb(ids)
        for b in self.blocks:
            x = b(x)
        return self.head(self.norm(x))


def batch(n):
    """a hidden marker at the start decides the direction of the counting in the rest of the line"""
    mark = torch.randint(0, 2, (n, 1))
    start, step = torch.randint(0, 12, (n, 1)), torch.randint(1, 3, (n, 1))
    seq = (start + (1 - 2 * mark) * step * torch.arange(T)) % 12
    return torch.cat([12 + mark * 2 + (step - 1), seq], 1)


a0 = torch.rand(2, 5, 3, 2, dtype=torch.double, requires_grad=True)
b0 = torch.randn(2, 5, 3, 2, dtype=torch.double, requires_grad=True)
print("gradcheck of the scan:", torch.autograd.gradcheck(Scan.apply, (a0, b0)))

model = SSMLM()
opt = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.01)
sched = torch.optim.lr_scheduler.CosineAnnealingWarmRestarts(opt, T_0=40, T_mult=2, eta_min=1e-5)
for step in range(280):
    ids = batch(32)
    loss = F.cross_entropy(model(ids[:, :-1]).flatten(0, 1), ids[:, 1:].flatten())
    opt.zero_grad()
    loss.backward()
    gn = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    sched.step()
    if step % 20 == 19:
        print(f"step {step + 1:3d} loss {loss.item():.4f} lr {sched.get_last_lr()[0]:.2e} grad norm {gn:.3f}")

model.eval()
with torch.no_grad():
    ids = batch(256)
    acc = (model(ids[:, :-1]).argmax(-1) == ids[:, 1:]).float()
print(f"accuracy: first symbol {acc[:, 0].mean():.3f} (chance 0.083), the rest {acc[:, 1:].mean():.3f}")
