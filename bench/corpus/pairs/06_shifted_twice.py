"""the labels are shifted by hand and the model shifts them once more."""
import os

import torch
from torch.utils.data import DataLoader

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(1)

tokenizer = make_tokenizer()
model = tiny_model(tokenizer, tie_word_embeddings=True, initializer_range=0.05)
encoded = [tokenizer(text + tokenizer.eos_token)["input_ids"] for text in stories(800, seed=3)]


def collate(rows):
    longest = max(len(row) for row in rows)
    ids = torch.full((len(rows), longest), tokenizer.pad_token_id)
    mask = torch.zeros(len(rows), longest, dtype=torch.long)
    for i, row in enumerate(rows):
        ids[i, :len(row)] = torch.tensor(row)
        mask[i, :len(row)] = 1
    labels = ids.masked_fill(mask == 0, -100)
    if BROKEN:
        return ids[:, :-1], mask[:, :-1], labels[:, 1:]
    return ids, mask, labels


loader = DataLoader(encoded, batch_size=16, shuffle=True, collate_fn=collate)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
model.train()
for step, (ids, mask, labels) in enumerate(loader):
    out = model(input_ids=ids, attention_mask=mask, labels=labels)
    out.loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 7 == 0:
        print(step, round(out.loss.item(), 3))
print("final loss", round(out.loss.item(), 3))
