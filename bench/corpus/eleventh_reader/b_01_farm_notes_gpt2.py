"""Pretrain a tiny GPT-2 on farm notes and report next-word perplexity on unseen notes."""
import math
import random

import torch
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

random.seed(3)
torch.manual_seed(3)

ANIMALS = ["cow", "goat", "hen", "sheep", "horse", "pig", "duck", "goose"]
FOODS = {"cow": "hay", "goat": "leaves", "hen": "corn", "sheep": "grass",
         "horse": "oats", "pig": "scraps", "duck": "pellets", "goose": "barley"}
TIMES = ["dawn", "noon", "dusk", "night"]
VERBS = ["ate", "wanted", "refused", "shared"]


def note():
    a, b = random.sample(ANIMALS, 2)
    t = random.choice(TIMES)
    return (f"at {t} the {a} {random.choice(VERBS)} {FOODS[a]} and then "
            f"the {b} {random.choice(VERBS)} {FOODS[b]} before {t} ended .").split()


notes = [note() for _ in range(1100)]
vocab = {w: i for i, w in enumerate(sorted({w for n in notes for w in n}) + ["<s>"])}
ids = torch.tensor([[vocab["<s>"]] + [vocab[w] for w in n] for n in notes])
train, held = ids[:950], ids[950:]


def collate(rows):
    rows = torch.stack(rows)
    return {"input_ids": rows[:, :-1], "labels": rows[:, 1:].contiguous()}


model = GPT2LMHeadModel(GPT2Config(vocab_size=len(vocab), n_positions=32, n_embd=64,
                                   n_layer=2, n_head=4, bos_token_id=0, eos_token_id=0))
opt = torch.optim.AdamW(model.parameters(), lr=2e-3, weight_decay=0.01)
loader = DataLoader(list(train), batch_size=32, shuffle=True, collate_fn=collate)

model.train()
for epoch in range(5):
    total = 0.0
    for batch in loader:
        loss = model(**batch).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        total += loss.item()
    print(f"epoch {epoch} train loss {total / len(loader):.3f}")

model.eval()
with torch.no_grad():
    logits = model(input_ids=held[:, :-1]).logits
    nll = torch.nn.functional.cross_entropy(logits.reshape(-1, len(vocab)), held[:, 1:].reshape(-1))
print(f"held-out perplexity {math.exp(min(nll.item(), 20)):.2f}")
