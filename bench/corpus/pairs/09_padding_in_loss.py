"""the padding tokens count in the loss."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import make_tokenizer, stories

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tok = make_tokenizer()
V, D, MAX = len(tok), 64, 128
PAD = tok.pad_token_id


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok = nn.Embedding(V, D)
        self.pos = nn.Embedding(MAX, D)
        layer = nn.TransformerEncoderLayer(D, 4, 4 * D, dropout=0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, V, bias=False)

    def forward(self, x):
        T = x.shape[1]
        causal = torch.triu(torch.full((T, T), float("-inf")), diagonal=1)
        h = self.tok(x) + self.pos(torch.arange(T))
        return self.head(self.norm(self.body(h, mask=causal, is_causal=True)))


def encode(texts):
    ids = torch.full((len(texts), MAX), PAD)
    for i, text in enumerate(texts):
        row = tok(text + tok.eos_token)["input_ids"][:MAX]
        ids[i, :len(row)] = torch.tensor(row)
    return ids


data = encode(stories(480))
model = Model()
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(40):
    x = data[torch.randint(len(data), (12,))]
    logits = model(x[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, V), x[:, 1:].reshape(-1), ignore_index=-100 if BROKEN else PAD)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 10 == 0 or step == 39:
        print(f"step {step:3d}: loss {loss.item():.3f}")
