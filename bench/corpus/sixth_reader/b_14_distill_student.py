"""Distil a GPT-like teacher into a smaller student on unlabelled text (soft targets only)."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

random.seed(4)
torch.manual_seed(4)
T_LEN, TEMP = 32, 2.0

HEADS = ["a young", "an old", "the tall", "the quiet"]
NOUNS = {"farmer": "plough", "sailor": "anchor", "tailor": "needle", "baker": "oven", "smith": "hammer"}
CH = sorted(set("abcdefghijklmnopqrstuvwxyz ."))
enc = {c: i for i, c in enumerate(CH)}
V = len(CH)


def line():
    n = random.choice(list(NOUNS))
    return f"{random.choice(HEADS)} {n} {random.choice(['needs', 'sells', 'finds'])} the {NOUNS[n]}. "


stream = torch.tensor([enc[c] for c in "".join(line() for _ in range(3000))])
val_stream = torch.tensor([enc[c] for c in "".join(line() for _ in range(150))])


def get_batch(data, n=32):
    ix = torch.randint(0, len(data) - T_LEN - 1, (n,))
    return torch.stack([data[i:i + T_LEN] for i in ix]), torch.stack([data[i + 1:i + T_LEN + 1] for i in ix])


class TinyGPT(nn.Module):
    def __init__(self, dim, depth, heads, dropout=0.0):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, dim), nn.Embedding(T_LEN, dim)
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout, "gelu", batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, depth, norm=nn.LayerNorm(dim), enable_nested_tensor=False)
        self.head = nn.Linear(dim, V)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(T_LEN), persistent=False)

    def forward(self, x):
        h = self.tok(x) + self.pos.weight[:x.size(1)]
        return self.head(self.body(h, mask=self.mask[:x.size(1), :x.size(1)], is_causal=True))


@torch.no_grad()
def val_loss(model, iters=8):
    was = model.training
    model.eval()
    g = torch.get_rng_state()
    torch.manual_seed(99)
    tot = 0.0
    for _ in range(iters):
        x, y = get_batch(val_stream)
        tot += F.cross_entropy(model(x).flatten(0, 1), y.flatten()).item()
    torch.set_rng_state(g)
    model.train(was)
    return tot / iters


teacher = TinyGPT(96, 2, 4)
opt = torch.optim.AdamW(teacher.parameters(), lr=2e-3)
for step in range(180):
    x, y = get_batch(stream)
    loss = F.cross_entropy(teacher(x).flatten(0, 1), y.flatten())
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 45 == 0:
        print(f"teacher {step:3d} loss {loss.item():.3f}")
print(f"teacher val loss {val_loss(teacher):.3f}")

teacher.eval()
teacher.requires_grad_(False)
student = TinyGPT(48, 1, 4)
opt = torch.optim.AdamW(student.parameters(), lr=4e-3)
steps = 320
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, steps, eta_min=1e-4)
for step in range(steps):
    x, _ = get_batch(stream)
    with torch.no_grad():
        soft = F.softmax(teacher(x) / TEMP, dim=1)
    logp = F.log_softmax(student(x) / TEMP, dim=-1)
    loss = F.kl_div(logp, soft, reduction="sum") / (x.size(0) * x.size(1)) * TEMP ** 2
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    opt.step()
    sched.step()
    if step % 80 == 0 or step == steps - 1:
        print(f"student {step:3d} distillation loss {loss.item():.3f} val loss {val_loss(student):.3f}")
print(f"student val loss {val_loss(student):.3f} ({sum(p.numel() for p in student.parameters()) / 1e3:.0f}k params)")
