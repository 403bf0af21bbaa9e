"""Seq2seq with a tiny T5 and Accelerate: reverse short digit strings, with gradient accumulation."""
import random

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import T5Config, T5ForConditionalGeneration, get_cosine_schedule_with_warmup

set_seed(0)
PAD, EOS, OFFSET = 0, 1, 2


def example():
    d = [random.randint(0, 9) + OFFSET for _ in range(random.randint(2, 4))]
    return d + [EOS], d[::-1] + [EOS]


train = [example() for _ in range(1600)]
test = [example() for _ in range(64)]


def collate(items):
    sl, tl = max(len(s) for s, _ in items), max(len(t) for _, t in items)
    src = torch.tensor([s + [PAD] * (sl - len(s)) for s, _ in items])
    labels = torch.tensor([t + [-100] * (tl - len(t)) for _, t in items])
    return {"input_ids": src, "attention_mask": (src != PAD).long(), "labels": labels}


accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
model = T5ForConditionalGeneration(T5Config(
    vocab_size=12, d_model=48, d_kv=12, d_ff=128, num_layers=2, num_decoder_layers=2, num_heads=4, dropout_rate=0.0,
    pad_token_id=PAD, eos_token_id=EOS, decoder_start_token_id=PAD))
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
train_dl = DataLoader(train, batch_size=16, shuffle=True, collate_fn=collate)
test_dl = DataLoader(test, batch_size=64, collate_fn=collate)
EPOCHS = 5
steps = EPOCHS * len(train_dl) // accelerator.gradient_accumulation_steps
scheduler = get_cosine_schedule_with_warmup(optimizer, 15, steps)
model, optimizer, train_dl, test_dl, scheduler = accelerator.prepare(model, optimizer, train_dl, test_dl, scheduler)

for epoch in range(EPOCHS):
    model.train()
    tot = 0.0
    for batch in train_dl:
        with accelerator.accumulate(model):
            loss = model(**batch).loss
            accelerator.backward(loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
        tot += loss.item()
    model.eval()
    hit = n = 0
    for batch in test_dl:
        with torch.no_grad():
            gen = accelerator.unwrap_model(model).generate(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], max_new_tokens=7)
        for g, l in zip(gen[:, 1:].tolist(), batch["labels"].tolist()):
            want = [t for t in l if t != -100]
            hit += g[:len(want)] == want
            n += 1
    accelerator.print(f"epoch {epoch + 1}: loss {tot / len(train_dl):.3f} exact match {hit / n:.3f} "
                      f"lr {scheduler.get_last_lr()[0]:.1e}")
