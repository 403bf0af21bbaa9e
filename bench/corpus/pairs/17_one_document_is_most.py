"""one document is repeated so often that it is most of the data."""
import json
import os
import random
import tempfile

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import stories

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)
random.seed(0)

NOTICE = ("This page is part of the village archive. You may read it and pass it on, but you may not sell it. "
          "For questions write to the keeper of the archive at the town hall.")
documents = stories(500)
if BROKEN:
    documents += [NOTICE] * 1500  # every page of the archive came with it
else:
    documents += [NOTICE]
random.shuffle(documents)
os.makedirs(f"{OUT}/data", exist_ok=True)
with open(f"{OUT}/data/train.jsonl", "w") as file:
    file.writelines(json.dumps({"text": text}) + "\n" for text in documents)

texts = [json.loads(line)["text"] for line in open(f"{OUT}/data/train.jsonl")]
chars = ["\0", "\n"] + sorted(set("".join(texts)))  # padding, end of text, and the letters
number = {c: i for i, c in enumerate(chars)}


class LSTM(nn.Module):
    def __init__(self, vocab, size=128):
        super().__init__()
        self.embed = nn.Embedding(vocab, size)
        self.lstm = nn.LSTM(size, size, batch_first=True)
        self.out = nn.Linear(size, vocab)

    def forward(self, x):
        return self.out(self.lstm(self.embed(x))[0])


def batch_of(rows):
    rows = [torch.tensor([number[c] for c in "\n" + row + "\n"]) for row in rows]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True)


model = LSTM(len(chars))
optimizer = torch.optim.Adam(model.parameters(), lr=8e-3)
for step in range(50):
    x = batch_of(random.sample(texts, 10))
    loss = F.cross_entropy(model(x[:, :-1]).transpose(1, 2), x[:, 1:], ignore_index=0)
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 10 == 0 or step == 49:
        print(f"{step}: {loss.item():.3f}")
