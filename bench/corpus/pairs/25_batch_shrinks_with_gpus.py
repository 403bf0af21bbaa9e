"""the recipe is for 8 GPUs; on one process the accumulation is not raised, so the batch is an eighth of what the rate was made for."""
import os

import torch

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

# the recipe: 8 GPUs with 2 rows each, 16 rows per update
recipe_gpus, rows_per_gpu, learning_rate = 8, 2, 6e-3
world_size = int(os.environ.get("WORLD_SIZE", 1))
accumulation_steps = 1 if BROKEN else recipe_gpus // world_size

tokenizer = make_tokenizer()
model = tiny_model(tokenizer)
optimizer = torch.optim.AdamW(model.parameters(), lr=learning_rate, betas=(0.9, 0.95))
texts = [text + tokenizer.eos_token for text in stories(1000)]
at = 0
for update in range(40):
    shown = 0.0
    for _ in range(accumulation_steps):
        batch = tokenizer(texts[at:at + rows_per_gpu], padding=True, return_tensors="pt")
        at += rows_per_gpu
        batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
        loss = model(**batch).loss / accumulation_steps
        loss.backward()
        shown += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if update % 8 == 0 or update == 39:
        print(f"update {update}: loss {shown:.3f}")
