"""every rank shuffles with the same seed and reads the same rows; there is no DistributedSampler."""
# run: torchrun --nproc_per_node 2
import os

import torch
import torch.distributed as dist
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

from common import stories

BROKEN = os.environ.get("BROKEN") == "1"
dist.init_process_group("gloo")
rank = dist.get_rank()
torch.manual_seed(0)
T, D = 128, 64


class CharModel(nn.Module):
    def __init__(self, vocab):
        super().__init__()
        self.embed, self.pos = nn.Embedding(vocab, D), nn.Embedding(T, D)
        layer = nn.TransformerEncoderLayer(D, 4, 128, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(D, vocab)

    def forward(self, x):
        n = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(n)
        return self.head(self.layers(self.embed(x) + self.pos(torch.arange(n)), mask=mask, is_causal=True))


text = "\n".join(stories(480))
chars = sorted(set(text))
ids = torch.tensor([chars.index(c) for c in text])
rows = ids[:len(ids) // (T + 1) * (T + 1)].view(-1, T + 1)[:640]
dataset = TensorDataset(rows)
if BROKEN:
    loader = DataLoader(dataset, batch_size=8, shuffle=True)
else:
    loader = DataLoader(dataset, batch_size=8, sampler=DistributedSampler(dataset, shuffle=True, seed=0))

model = DistributedDataParallel(CharModel(len(chars)))
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step, (batch,) in enumerate(loader):
    logits = model(batch[:, :-1])
    loss = F.cross_entropy(logits.reshape(-1, len(chars)), batch[:, 1:].reshape(-1))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if rank == 0 and step % 10 == 0:
        print(f"step {step} loss {loss.item():.3f}", flush=True)
    if step == 39:
        break
if rank == 0:
    print(f"final loss {loss.item():.3f}")
dist.destroy_process_group()
