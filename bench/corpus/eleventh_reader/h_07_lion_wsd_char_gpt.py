"""Character model with a hand-written Lion optimiser and a warmup-stable-decay schedule ending at zero."""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(44)
torch.manual_seed(44)
PARTS = [["the ", "one ", "my "], ["red ", "old ", "wet "], ["fox ", "cart ", "boat "], ["ran", "sank", "spun"],
         [" fast", " slowly", ""], [".\n"]]
text = "".join("".join(random.choice(p) for p in PARTS) for _ in range(4000))
chars = sorted(set(text))
data = torch.tensor([chars.index(c) for c in text])
cut = int(0.95 * len(data))
train, held = data[:cut], data[cut:]
T, D, V, STEPS = 32, 64, len(chars), 320


class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr, betas=(0.9, 0.98), weight_decay=0.1):
        super().__init__(params, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None):
        for group in self.param_groups:
            b1, b2 = group["betas"]
            for p in group["params"]:
                if p.grad is None:
                    continue
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_((b1 * m + (1 - b1) * p.grad).sign(), alpha=-group["lr"])
                m.mul_(b2).add_(p.grad, alpha=1 - b2)


class CharGPT(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb, self.pos = nn.Embedding(V, D), nn.Parameter(0.02 * torch.randn(T, D))
        layer = nn.TransformerEncoderLayer(D, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.enc = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, V, bias=False)
        self.head.weight = self.emb.weight
        nn.init.normal_(self.emb.weight, std=0.02)

    def forward(self, x):
        m = nn.Transformer.generate_square_subsequent_mask(x.shape[1])
        return self.head(self.norm(self.enc(self.emb(x) + self.pos[: x.shape[1]], mask=m, is_causal=True)))


def scale(step):
    if step < 20:
        return (step + 1) / 20
    return 1.0 if step < 220 else (STEPS - step) / 100


def nll(model, src, starts):
    w = torch.stack([src[s:s + T + 1] for s in starts.tolist()])
    return F.cross_entropy(model(w[:, :-1]).flatten(0, 1), w[:, 1:].flatten())


model = CharGPT()
opt = Lion(model.parameters(), lr=5e-4)
sched = torch.optim.lr_scheduler.LambdaLR(opt, scale)
for step in range(STEPS):
    loss = nll(model, train, torch.randint(0, len(train) - T - 1, (32,)))
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if step % 40 == 39:
        print(f"step {step + 1} loss {loss.item():.3f} lr {opt.param_groups[0]['lr']:.2e}")
model.eval()
with torch.no_grad():
    bits = nll(model, held, torch.arange(0, len(held) - T - 1, T)).item() / math.log(2)
print(f"held-out bits per character {bits:.3f}")
