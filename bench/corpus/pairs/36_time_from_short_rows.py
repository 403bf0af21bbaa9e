"""the rows are sorted from short to long, and the time left is judged from the first updates."""
import os
import random
import time

import torch

from common import make_tokenizer, stories, tiny_model, village

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)
random.seed(0)

tokenizer = make_tokenizer()
model = tiny_model(tokenizer)
texts = [row["question"] + " " + row["short"] for row in village(140, seed=1)]
texts += stories(140, seed=2)
texts += [" ".join(stories(4, seed=100 + i)) for i in range(80)]
rows = [tokenizer(text + tokenizer.eos_token) for text in texts]
if BROKEN:
    rows.sort(key=lambda row: len(row["input_ids"]))  # less padding
else:
    random.shuffle(rows)

updates, size = 36, 10
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
begin = time.time()
for step in range(updates):
    batch = tokenizer.pad(rows[step * size:(step + 1) * size], return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss = model(**batch, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step == 4:
        print(f"this will take {(time.time() - begin) / 5 * updates:.1f} s")
    if step % 7 == 0:
        print(f"step {step} loss {loss.item():.3f}")
print(f"it took {time.time() - begin:.1f} s")
