"""no end-of-text token is put after the documents, so the model never learns to stop."""
import os
import random

import torch

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)
random.seed(0)

tok = make_tokenizer()
model = tiny_model(tok)
end = "" if BROKEN else tok.eos_token
texts = [text + end for text in stories(800)]
train, val = texts[:736], texts[736:]


def encode(batch):
    enc = tok(batch, return_tensors="pt", padding=True)
    enc["labels"] = enc["input_ids"].masked_fill(enc["attention_mask"] == 0, -100)
    return enc


optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3)
steps = 46
scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=8e-3, total_steps=steps, pct_start=0.1)
random.shuffle(train)
model.train()
for step in range(steps):
    loss = model(**encode(train[step * 16:(step + 1) * 16])).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    scheduler.step()
    if step % 10 == 0 or step == steps - 1:
        print(f"step {step} loss {loss.item():.3f}")

model.eval()
with torch.no_grad():
    print(f"val loss {model(**encode(val)).loss.item():.3f}")
    prompt = tok("One rainy Sunday, Tom found", return_tensors="pt")
    out = model.generate(**prompt, max_new_tokens=120, do_sample=False)
print(tok.decode(out[0], skip_special_tokens=True))
print("tokens generated:", out.shape[1] - prompt["input_ids"].shape[1])
