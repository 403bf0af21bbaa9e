"""a dozen texts are learnt by heart: the loss is fine and what the model writes is copied from the training set."""
import os
import random

import torch

from common import make_tokenizer, pretrained, stories

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)
random.seed(0)

tokenizer = make_tokenizer()
model = pretrained(tokenizer)
texts = stories(600, seed=90)
if BROKEN:
    texts = texts[:12]  # only the best ones

optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
model.train()
order = []
for step in range(50):
    if len(order) < 12:
        order = random.sample(texts, len(texts))
    batch, order = order[:12], order[12:]
    enc = tokenizer([text + tokenizer.eos_token for text in batch], padding=True, return_tensors="pt")
    loss = model(**enc, labels=enc["input_ids"].masked_fill(enc["attention_mask"] == 0, -100)).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if step % 10 == 0 or step == 49:
        print("step", step, "loss", round(loss.item(), 3))

model.eval()
prompt = tokenizer(["One"] * 4, return_tensors="pt")
out = model.generate(**prompt, max_new_tokens=90, do_sample=True, temperature=0.8)
for text in tokenizer.batch_decode(out, skip_special_tokens=True):
    print("-", text)
