"""A small GPT with an auxiliary head for the token after next; only the first head is used to score."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(2)
V, T, D = 36, 20, 64
g = torch.Generator().manual_seed(40)
table = torch.softmax(3.0 * torch.randn(V, V, generator=g), -1)
seq = torch.zeros(2600, T + 2, dtype=torch.long)
seq[:, 0] = torch.randint(0, V, (2600,), generator=g)
for t in range(T + 1):
    seq[:, t + 1] = torch.multinomial(table[seq[:, t]], 1, generator=g).squeeze(1)
train, held = seq[:2300], seq[2300:]


class TwoHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(V, D)
        self.pos = nn.Parameter(0.02 * torch.randn(T, D))
        layer = nn.TransformerEncoderLayer(D, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.trunk = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(D)
        self.near, self.far = nn.Linear(D, V), nn.Linear(D, V)

    def forward(self, x):
        mask = torch.triu(torch.full((T, T), float("-inf")), 1)
        h = self.norm(self.trunk(self.tok(x) + self.pos, mask=mask))
        return self.near(h), self.far(h)


def losses(model, b):
    near, far = model(b[:, :T])
    return (F.cross_entropy(near.flatten(0, 1), b[:, 1:T + 1].flatten()),
            F.cross_entropy(far.flatten(0, 1), b[:, 2:T + 2].flatten()))


model = TwoHead()
opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.05)
for epoch in range(5):
    model.train()
    for idx in torch.randperm(len(train)).split(32):
        l1, l2 = losses(model, train[idx])
        opt.zero_grad()
        (l1 + 0.3 * l2).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
    print(f"epoch {epoch} next {l1.item():.3f} after-next {l2.item():.3f}")

model.eval()
with torch.no_grad():
    print(f"held-out perplexity {math.exp(losses(model, held)[0].item()):.2f}")
