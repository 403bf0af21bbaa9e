"""Rejection-sampling rounds: sample 6 answers per problem, keep the verified ones (no repeats), train on them."""
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(4)
random.seed(4)
D, EQ, EOS = 8, 8, 9
V, P, A = 10, 5, 5                       # prompt: four digits and '=', answer: the digits in order and EOS


class LM(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.t, self.p = nn.Embedding(V, d), nn.Parameter(torch.randn(P + A, d) * 0.1)
        layer = nn.TransformerEncoderLayer(d, 4, 2 * d, dropout=0.0, batch_first=True, norm_first=True)
        self.b = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.o = nn.Linear(d, V)

    def forward(self, x):
        n = x.shape[1]
        return self.o(self.b(self.t(x) + self.p[:n], mask=nn.Transformer.generate_square_subsequent_mask(n), is_causal=True))


def prompt(q):
    return list(q) + [EQ]


def solve(q):
    return sorted(q) + [EOS]


@torch.no_grad()
def sample(model, x, greedy=False):
    for _ in range(A):
        p = model(x)[:, -1].softmax(-1)
        x = torch.cat([x, p.argmax(-1, keepdim=True) if greedy else torch.multinomial(p, 1)], 1)
    return x


def fit(model, rows, steps, lr):
    opt = torch.optim.AdamW(model.parameters(), lr=lr)
    rows = torch.tensor(rows)
    for _ in range(steps):
        x = rows[torch.randint(len(rows), (32,))]
        logits = model(x[:, :-1])[:, P - 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), x[:, P:].flatten())
        opt.zero_grad()
        loss.backward()
        opt.step()
    return loss.item()


everything = list({tuple(random.randrange(D) for _ in range(4)) for _ in range(1200)})
seed, unlabelled, test = everything[:120], everything[120:520], everything[520:820]


def accuracy(model, probs):
    out = sample(model, torch.tensor([prompt(q) for q in probs]), greedy=True)
    return (out[:, P:] == torch.tensor([solve(q) for q in probs])).all(1).float().mean().item()


model = LM()
pool = {tuple(prompt(q) + solve(q)) for q in seed}
fit(model, list(pool), 100, 2e-3)
print(f"start: test {accuracy(model, test):.3f} pool {len(pool)}")
for rnd in range(5):
    x = torch.tensor([prompt(q) for q in unlabelled]).repeat_interleave(6, 0)
    for row in sample(model, x).tolist():
        if row[P:] == solve(row[:4]):                  # the verifier
            pool.add(tuple(row))
    loss = fit(model, list(pool), 130, 1.5e-3)
    print(f"round {rnd}: pool {len(pool)} loss {loss:.3f} test {accuracy(model, test):.3f}")
print(f"held-out problems right {accuracy(model, test):.3f}")
