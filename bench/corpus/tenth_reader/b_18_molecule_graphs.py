"""Graph classification with a small GIN written by hand (no torch_geometric)."""
import random
from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F


@dataclass
class Graph:
    x: torch.Tensor       # (nodes, 3) atom type, one-hot
    edges: torch.Tensor   # (2, E), both directions
    y: int


def make_graph(rng):
    n = rng.randint(8, 14)
    kind = rng.randrange(3)
    if kind == 0:                      # ring
        e = [(i, (i + 1) % n) for i in range(n)]
    elif kind == 1:                    # chain with branches
        e = [(i, i - 1 if rng.random() < 0.6 else rng.randrange(i)) for i in range(1, n)]
    else:                              # two rings, one bond between them
        h = n // 2
        e = [(i, (i + 1) % h) for i in range(h)] + [(h + i, h + (i + 1) % (n - h)) for i in range(n - h)] + [(0, h)]
    perm = list(range(n))
    rng.shuffle(perm)
    e = [(perm[a], perm[b]) for a, b in e]
    e = e + [(b, a) for a, b in e]
    x = F.one_hot(torch.tensor([rng.randrange(3) for _ in range(n)]), 3).float()
    return Graph(x, torch.tensor(e).t(), kind)


def collate(graphs):
    x = torch.cat([g.x for g in graphs])
    edges = torch.cat([g.edges for g in graphs], dim=1)
    batch = torch.cat([torch.full((len(g.x),), i) for i, g in enumerate(graphs)])
    return x, edges, batch, torch.tensor([g.y for g in graphs])


class GINLayer(nn.Module):
    def __init__(self, din, d):
        super().__init__()
        self.eps = nn.Parameter(torch.zeros(1))
        self.mlp = nn.Sequential(nn.Linear(din, d), nn.ReLU(), nn.Linear(d, d), nn.ReLU())

    def forward(self, x, edges):
        src, dst = edges
        agg = torch.zeros_like(x).index_add_(0, dst, x[src])
        return self.mlp((1 + self.eps) * x + agg)


class GIN(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.layers = nn.ModuleList([GINLayer(3, d), GINLayer(d, d), GINLayer(d, d)])
        self.out = nn.Linear(3 * d, 3)

    def forward(self, x, edges, batch, n):
        pooled = []
        for layer in self.layers:
            x = layer(x, edges)
            p = torch.zeros(n, x.shape[1]).index_add_(0, batch, x)
            pooled.append(p / torch.bincount(batch, minlength=n).unsqueeze(1))
        return self.out(torch.cat(pooled, 1))


rng = random.Random(6)
torch.manual_seed(6)
train, test = [make_graph(rng) for _ in range(1000)], [make_graph(rng) for _ in range(300)]
net = GIN()
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
for epoch in range(15):
    rng.shuffle(train)
    tot = 0
    for i in range(0, len(train), 25):
        x, e, b, y = collate(train[i:i + 25])
        loss = F.cross_entropy(net(x, e, b, len(y)), y)
        opt.zero_grad()
        loss.backward()
        opt.step()
        tot += loss.item()
    if epoch % 3 == 2:
        print(f"epoch {epoch} loss {tot / 40:.3f}")
net.eval()
hit = 0
with torch.no_grad():
    for g in test:
        x, e, b, y = collate([g])
        hit += int(net(x, e, b, 1).argmax(1) == y)
print(f"test accuracy {hit / len(test):.3f}")
