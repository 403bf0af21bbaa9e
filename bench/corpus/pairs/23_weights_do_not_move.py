"""the optimizer is made before the model is replaced by the loaded one, so it moves weights that nobody uses."""
import os

import torch
from transformers import LlamaForCausalLM

from common import make_tokenizer, pretrained_folder, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = tiny_model(tokenizer)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
# start from the weights of last week
model = LlamaForCausalLM.from_pretrained(pretrained_folder())
if not BROKEN:
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)

rows = stories(480, seed=30)
model.train()
for step in range(40):
    texts = [text + tokenizer.eos_token for text in rows[step * 12:(step + 1) * 12]]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    loss = model(**batch).loss
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 8 == 0 or step == 39:
        print(f"step {step} loss {loss.item():.3f}")
