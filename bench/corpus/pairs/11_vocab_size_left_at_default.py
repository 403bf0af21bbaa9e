"""vocab_size is left at GPT-2's default of 50257 although the tokenizer has 512 tokens."""
import os

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from common import make_tokenizer, village

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tokenizer = make_tokenizer()
config = GPT2Config(n_embd=64, n_layer=2, n_head=4, n_positions=256, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                    eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
if not BROKEN:
    config.vocab_size = len(tokenizer)
model = GPT2LMHeadModel(config)
print(f"{model.num_parameters():,} parameters")

texts = [row["question"] + " " + row["whole"] + tokenizer.eos_token for row in village(240)]
optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
model.train()
for step in range(30):
    batch = tokenizer(texts[step * 8:step * 8 + 8], return_tensors="pt", padding=True)
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss = model(**batch, labels=labels).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 8 == 0:
        print(step, round(loss.item(), 3))
print("final", round(loss.item(), 3))
