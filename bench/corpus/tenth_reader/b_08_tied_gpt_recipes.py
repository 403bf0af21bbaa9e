import random
import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(7)
rng = random.Random(7)
ingredients = "flour sugar butter salt milk honey rice beans onion garlic pepper oil lemon basil cream".split()
actions = "mix fold whisk bake simmer roast chop fry".split()
units = "cup spoon pinch gram".split()
vocab = sorted(set(ingredients + actions + units + [str(i) for i in range(1, 10)] + ["add", "of", "then", "for", "minutes", "<s>"]))
stoi = {w: i for i, w in enumerate(vocab)}
pref = {i: (rng.choice(actions), rng.choice(units)) for i in ingredients}


def recipe():
    out = ["<s>"]
    for _ in range(5):
        i = rng.choice(ingredients)
        a, u = pref[i]
        n = rng.randint(1, 9)
        out += ["add", str(n), u, "of", i, "then", a, "for", str(n), "minutes"]
    return [stoi[w] for w in out]


block = 32
train = torch.tensor([t for _ in range(900) for t in recipe()])
test = torch.tensor([t for _ in range(80) for t in recipe()])


class Layer(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.att = nn.MultiheadAttention(d, h, batch_first=True)
        self.ff = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))
        self.register_buffer("mask", torch.triu(torch.ones(block, block, dtype=torch.bool), 1))

    def forward(self, x):
        y = self.n1(x)
        m = self.mask[: x.shape[1], : x.shape[1]]
        x = x + self.att(y, y, y, attn_mask=m, need_weights=False)[0]
        return x + self.ff(self.n2(x))


class TinyGPT(nn.Module):
    def __init__(self, n, d=128, h=4, depth=2):
        super().__init__()
        self.tok = nn.Embedding(n, d)
        self.pos = nn.Embedding(block, d)
        self.layers = nn.ModuleList(Layer(d, h) for _ in range(depth))
        self.norm = nn.LayerNorm(d)
        self.head = nn.Linear(d, n, bias=False)
        self.head.weight = self.tok.weight

    def forward(self, x, y=None):
        h = self.tok(x) + self.pos(torch.arange(x.shape[1]))
        for layer in self.layers:
            h = layer(h)
        logits = self.head(self.norm(h))
        return logits, None if y is None else F.cross_entropy(logits.flatten(0, 1), y.flatten())


def batch(src, n):
    i = torch.randint(len(src) - block - 1, (n,))
    w = torch.stack([src[j:j + block + 1] for j in i])
    return w[:, :-1], w[:, 1:]


model = TinyGPT(len(vocab))
optim = torch.optim.AdamW(model.parameters(), lr=3e-4, betas=(0.9, 0.95), weight_decay=0.1)
for it in range(300):
    x, y = batch(train, 16)
    _, loss = model(x, y)
    optim.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optim.step()
    if it % 50 == 0:
        print(f"iter {it} loss {loss.item():.3f}")

model.eval()
torch.manual_seed(0)
with torch.no_grad():
    ev = sum(model(*batch(test, 64))[1].item() for _ in range(4)) / 4
print(f"test loss {ev:.3f}")
