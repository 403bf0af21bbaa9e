"""two models with different tokenizers are compared by perplexity per token instead of bits per byte."""
import math
import os

import torch

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
texts = stories(440)
train, val = texts[:400], texts[400:]


def encode(tokenizer, texts):
    batch = tokenizer([text + tokenizer.eos_token for text in texts], padding=True, return_tensors="pt")
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return batch


scores = {}
for vocab_size in (280, 512):
    torch.manual_seed(0)
    tokenizer = make_tokenizer(vocab_size)
    model = tiny_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=8e-3)
    for step in range(33):
        loss = model(**encode(tokenizer, train[step * 12:step * 12 + 12])).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 8 == 0:
            print(f"vocabulary {vocab_size} step {step} loss {loss.item():.3f}")
    with torch.no_grad():
        batch = encode(tokenizer, val)
        loss = model(**batch).loss.item()
    if BROKEN:
        scores[vocab_size] = math.exp(loss)
    else:
        tokens = (batch["labels"][:, 1:] != -100).sum().item()
        scores[vocab_size] = loss * tokens / math.log(2) / sum(len(text.encode()) for text in val)

name = "perplexity" if BROKEN else "bits per byte"
for vocab_size, score in scores.items():
    print(f"vocabulary {vocab_size}: {name} {score:.3f}")
print("the better one has the vocabulary", min(scores, key=scores.get))
