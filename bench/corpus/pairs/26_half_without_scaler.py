"""the weights are cast to float16 and trained without a loss scaler: small values underflow, Adam divides by zero."""
import os

import torch

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = tiny_model(tokenizer)
if BROKEN:
    model = model.half()  # half the memory
print("weights are", next(model.parameters()).dtype)

texts = [text + tokenizer.eos_token for text in stories(400)]
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
model.train()
for step in range(40):
    batch = tokenizer(texts[step * 10:step * 10 + 10], padding=True, return_tensors="pt")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss = model(**batch, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 10 == 0 or step == 39:
        print("step", step, "loss", round(loss.item(), 3))
