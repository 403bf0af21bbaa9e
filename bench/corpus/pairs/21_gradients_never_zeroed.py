"""the gradients are never set to zero, so each update uses the sum of all batches so far."""
import os

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

from common import stories

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

text = "\n".join(stories(700, seed=2))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
T = 96
windows = data[:len(data) // T * T].view(-1, T)
windows = windows[torch.randperm(len(windows))]


class Block(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.attn = nn.MultiheadAttention(d, 4, batch_first=True)
        self.ff = nn.Sequential(nn.Linear(d, 4 * d), nn.ReLU(), nn.Linear(4 * d, d))
        self.ln1, self.ln2 = nn.LayerNorm(d), nn.LayerNorm(d)

    def forward(self, x, mask):
        h = self.ln1(x)
        x = x + self.attn(h, h, h, attn_mask=mask, need_weights=False)[0]
        return x + self.ff(self.ln2(x))


class CharTransformer(nn.Module):
    def __init__(self, vocab, d=64):
        super().__init__()
        self.embed, self.pos = nn.Embedding(vocab, d), nn.Parameter(torch.zeros(T, d))
        self.blocks = nn.ModuleList(Block(d) for _ in range(2))
        self.head = nn.Linear(d, vocab)

    def forward(self, x):
        n = x.shape[1]
        mask = torch.ones(n, n).triu(1).bool()
        h = self.embed(x) + self.pos[:n]
        for block in self.blocks:
            h = block(h, mask)
        return self.head(h)


model = CharTransformer(len(chars))
optimizer = torch.optim.SGD(model.parameters(), lr=0.2, momentum=0.9)
criterion = nn.CrossEntropyLoss()
for step, batch in enumerate(DataLoader(windows, batch_size=24, shuffle=True)):
    logits = model(batch[:, :-1])
    loss = criterion(logits.flatten(0, 1), batch[:, 1:].flatten())
    if not BROKEN:
        optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 10 == 0:
        print("step", step, "loss", round(loss.item(), 3))
    if step == 50:
        break
