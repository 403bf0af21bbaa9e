"""Two-tower FAQ retrieval with in-batch negatives. python b_07_faq_retrieval.py"""
import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F


class Tower(nn.Module):
    def __init__(self, vocab, dim):
        super().__init__()
        self.bag = nn.EmbeddingBag(vocab, dim, mode="mean")
        self.proj = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim))

    def forward(self, x):
        return F.normalize(self.proj(self.bag(x)), dim=-1)


def pairs(n, intents, rng):
    """question words and answer words come from disjoint vocabularies tied by a hidden intent"""
    q, a, k = [], [], []
    for _ in range(n):
        i = rng.randrange(len(intents))
        qs, ans = intents[i]
        q.append([rng.choice(qs) if rng.random() < 0.7 else rng.randrange(200) for _ in range(8)])
        a.append([rng.choice(ans) if rng.random() < 0.7 else 200 + rng.randrange(200) for _ in range(12)])
        k.append(i)
    return torch.tensor(q), torch.tensor(a), torch.tensor(k)


def main(a):
    torch.manual_seed(a.seed)
    rng = random.Random(a.seed)
    intents = [(rng.sample(range(200), 5), rng.sample(range(200, 400), 6)) for _ in range(150)]
    q, d, _ = pairs(2400, intents, rng)
    qv, dv, _ = pairs(300, intents, rng)
    towers = nn.ModuleDict({"q": Tower(400, 64), "d": Tower(400, 64)})
    opt = torch.optim.AdamW(towers.parameters(), lr=a.lr)
    warmup, total = 20, a.epochs * (len(q) // a.batch)
    sched = torch.optim.lr_scheduler.LambdaLR(
        opt, lambda s: (s + 1) / warmup if s < warmup else max(0.0, (total - s) / (total - warmup)))
    for epoch in range(a.epochs):
        running = 0.0
        for idx in torch.randperm(len(q)).split(a.batch)[: len(q) // a.batch]:
            s = towers["q"](q[idx]) @ towers["d"](d[idx]).T / a.temperature
            loss = F.cross_entropy(s, torch.arange(len(idx)))
            opt.zero_grad()
            loss.backward()
            opt.step()
            running += loss.item()
        sched.step()
        print(f"epoch {epoch}  loss {running / (len(q) // a.batch):.3f}")
    towers.eval()
    with torch.no_grad():
        sim = towers["q"](qv) @ towers["d"](dv).T
    rank = (sim > sim.diag().unsqueeze(1)).sum(1)
    print(f"METRIC recall@10 {(rank < 10).float().mean():.3f}")
    print(f"METRIC mrr {(1.0 / (rank + 1)).mean():.3f}")


if __name__ == "__main__":
    p = argparse.ArgumentParser()
    p.add_argument("--seed", type=int, default=4)
    p.add_argument("--lr", type=float, default=3e-3)
    p.add_argument("--epochs", type=int, default=5)
    p.add_argument("--batch", type=int, default=48)
    p.add_argument("--temperature", type=float, default=0.07)
    main(p.parse_args())
