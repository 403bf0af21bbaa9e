"""the scheduler is stepped after every micro-batch, so the learning rate is at zero after a quarter of the run."""
import os

import torch
from transformers import get_linear_schedule_with_warmup

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = tiny_model(tokenizer, num_key_value_heads=2)
texts = [text + tokenizer.eos_token for text in stories(640)]

micro_batch, accumulate, updates = 4, 4, 40
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=4, num_training_steps=updates)

running = 0.0
for i in range(updates * accumulate):
    batch = tokenizer(texts[i * micro_batch:(i + 1) * micro_batch], padding=True, return_tensors="pt")
    labels = batch.input_ids.masked_fill(batch.attention_mask == 0, -100)
    loss = model(**batch, labels=labels).loss / accumulate
    loss.backward()
    running += loss.item()
    if BROKEN:
        scheduler.step()
    if (i + 1) % accumulate == 0:
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        if not BROKEN:
            scheduler.step()
        update = (i + 1) // accumulate
        if update % 8 == 0:
            print(f"update {update}/{updates} loss {running:.3f}")
        running = 0.0
