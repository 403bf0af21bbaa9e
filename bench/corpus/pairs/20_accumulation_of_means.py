"""gradient accumulation averages the means of batches that hold very different numbers of tokens."""
import os
import random

import torch
import torch.nn.functional as F

from common import make_tokenizer, tiny_model, village

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)
random.seed(0)

tokenizer = make_tokenizer()
model = tiny_model(tokenizer)
texts = []
for row in village(500, seed=14):  # some documents are whole stories, others one short line
    texts.append(random.choice([row["text"], row["short"], row["question"] + " " + row["answer"]]))
documents = [tokenizer(text + tokenizer.eos_token, return_tensors="pt")["input_ids"] for text in texts]

accumulate = 12
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
for step in range(36):
    micro = documents[step * accumulate:(step + 1) * accumulate]  # one document at a time fits into memory
    tokens = sum(ids.numel() - 1 for ids in micro)
    total = 0.0
    for ids in micro:
        logits = model(input_ids=ids).logits
        if BROKEN:
            loss = F.cross_entropy(logits[0, :-1], ids[0, 1:]) / accumulate
        else:
            loss = F.cross_entropy(logits[0, :-1], ids[0, 1:], reduction="sum") / tokens
        loss.backward()
        total += loss.item()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    if step % 7 == 0:
        print(f"step {step} loss {total:.3f}")
print(f"final loss {total:.3f}")
