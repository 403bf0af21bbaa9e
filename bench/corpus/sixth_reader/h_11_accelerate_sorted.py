"""Seq2seq T5 with Accelerate: batches of similar length (order of the batches shuffled), token-weighted accumulation."""
import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader, Sampler
from transformers import T5Config, T5ForConditionalGeneration, get_linear_schedule_with_warmup

set_seed(31)
PAD, EOS, OFF = 0, 1, 2
ACCUM = 2
plural = {"dog": "hunde", "cat": "katzen", "tree": "baume", "book": "bucher", "car": "autos", "stone": "steine", "lamp": "lampen"}
src_vocab = {w: i + OFF for i, w in enumerate(list(plural) + ["two", "three", "and"])}
tgt_vocab = {w: i + OFF + len(src_vocab) for i, w in enumerate(list(plural.values()) + ["zwei", "drei", "und"])}
V = OFF + len(src_vocab) + len(tgt_vocab)


def example():
    s, t = [], []
    for i in range(random.choice([1, 1, 1, 2, 3, 5])):
        if i:
            s.append("and")
            t.append("und")
        num, w = random.choice([("two", "zwei"), ("three", "drei")]), random.choice(list(plural))
        s += [num[0], w]
        t += [num[1], plural[w]]
    return [src_vocab[x] for x in s] + [EOS], [tgt_vocab[x] for x in t] + [EOS]


class LengthBatches(Sampler):
    """sorted by length, cut into batches, and the batches come in a new random order every epoch"""

    def __init__(self, data, size):
        order = sorted(range(len(data)), key=lambda i: (len(data[i][0]), random.random()))
        self.batches = [order[i:i + size] for i in range(0, len(order), size)]

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(random.sample(self.batches, len(self.batches)))


def collate(rows):
    S, T = max(len(s) for s, _ in rows), max(len(t) for _, t in rows)
    ids = torch.tensor([s + [PAD] * (S - len(s)) for s, _ in rows])
    return {"input_ids": ids, "attention_mask": (ids != PAD).long(),
            "labels": torch.tensor([t + [-100] * (T - len(t)) for _, t in rows])}


train, dev = [example() for _ in range(1400)], [example() for _ in range(100)]
accelerator = Accelerator(cpu=True)
model = T5ForConditionalGeneration(T5Config(vocab_size=V, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=4,
                                            dropout_rate=0.0, decoder_start_token_id=PAD, pad_token_id=PAD, eos_token_id=EOS))
loader = DataLoader(train, batch_sampler=LengthBatches(train, 16), collate_fn=collate)
dev_loader = DataLoader(dev, batch_size=50, collate_fn=collate)
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.0)
epochs, updates = 7, -(-len(loader) // ACCUM)
scheduler = get_linear_schedule_with_warmup(optimizer, 10, epochs * updates)
model, optimizer, loader, dev_loader = accelerator.prepare(model, optimizer, loader, dev_loader)

for epoch in range(epochs):
    model.train()
    it, seen_loss, seen_tok, n_up = iter(loader), 0.0, 0, 0
    for _ in range(updates):
        group = [b for _, b in zip(range(ACCUM), it)]            # the last group of an epoch is smaller
        n_tok = sum((b["labels"] != -100).sum() for b in group)
        for b in group:
            logits = model(**b).logits
            loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), b["labels"].flatten(), reduction="sum") / n_tok
            accelerator.backward(loss)
            seen_loss += loss.item() * n_tok.item()
        accelerator.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        seen_tok += n_tok.item()
        n_up += 1
    model.eval()
    with torch.no_grad():
        dev_loss = sum(model(**b).loss.item() for b in dev_loader) / len(dev_loader)
    accelerator.print(f"epoch {epoch} updates {n_up} train loss per token {seen_loss / seen_tok:.4f} dev {dev_loss:.4f} lr {scheduler.get_last_lr()[0]:.1e}")

hit = 0
with torch.no_grad():
    for i, b in enumerate(dev_loader):
        gen = accelerator.unwrap_model(model).generate(input_ids=b["input_ids"], attention_mask=b["attention_mask"], max_new_tokens=20)
        for row, (_, t) in zip(gen.tolist(), dev[i * 50:]):
            hit += [x for x in row if x != PAD] == t
accelerator.print(f"exact match {hit}/{len(dev)}")
