"""the learning rate is a hundred times too high."""
import os

import torch

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tok = make_tokenizer()
model = tiny_model(tok)
lr = 0.3 if BROKEN else 3e-3
optimizer = torch.optim.AdamW(model.parameters(), lr=lr)
scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: min((step + 1) / 5, 1.0))

texts = [text + tok.eos_token for text in stories(640)]
for step in range(40):
    enc = tok(texts[step * 16:(step + 1) * 16], padding=True, return_tensors="pt")
    labels = torch.where(enc.attention_mask.bool(), enc.input_ids, -100)
    loss = model(**enc, labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step % 5 == 0 or step == 39:
        print(f"step {step:2d}  lr {scheduler.get_last_lr()[0]:.4f}  loss {loss.item():.3f}")
