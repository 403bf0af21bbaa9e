"""a no_grad copied from the generation code stands around the embedding and the first layer: they get no gradient."""
import contextlib
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import make_tokenizer, stories

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)
tok = make_tokenizer()
V, D, MAX = len(tok), 64, 160


class StoryModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.wte = nn.Embedding(V, D)
        self.wpe = nn.Embedding(MAX, D)
        self.first = nn.TransformerEncoderLayer(D, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.second = nn.TransformerEncoderLayer(D, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.norm = nn.LayerNorm(D)
        self.head = nn.Linear(D, V)

    def encode(self, ids, mask):
        return self.first(self.wte(ids) + self.wpe(torch.arange(ids.shape[1])), src_mask=mask)

    def forward(self, ids):
        mask = torch.full((ids.shape[1], ids.shape[1]), float("-inf")).triu(1)
        with torch.no_grad() if BROKEN else contextlib.nullcontext():
            h = self.encode(ids, mask)
        return self.head(self.norm(self.second(h, src_mask=mask)))


model = StoryModel()
rows = [torch.tensor(tok(text + tok.eos_token)["input_ids"][:MAX]) for text in stories(640)]
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
for step in range(40):
    batch = rows[step * 16:(step + 1) * 16]
    x = nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=tok.pad_token_id)
    y = nn.utils.rnn.pad_sequence(batch, batch_first=True, padding_value=-100)
    loss = F.cross_entropy(model(x[:, :-1]).transpose(1, 2), y[:, 1:])
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 8 == 0 or step == 39:
        print("step", step, "loss", f"{loss.item():.3f}")
