"""nothing cuts the one very long document near the end of the data, so memory jumps hours into the run."""
import os
import resource

import torch
from torch.nn.utils.rnn import pad_sequence

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = tiny_model(tokenizer, attn_implementation="eager")
texts = stories(290)
texts.insert(270, " ".join(stories(12, seed=99)))  # the chronicle of the village

rows = []
for text in texts:
    ids = tokenizer(text + tokenizer.eos_token)["input_ids"]
    size = len(ids) if BROKEN else 128
    rows += [torch.tensor(ids[i:i + size]) for i in range(0, len(ids), size)]

optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
for step in range(36):
    batch = rows[step * 8:step * 8 + 8]
    ids = pad_sequence(batch, batch_first=True, padding_value=tokenizer.pad_token_id)
    labels = pad_sequence(batch, batch_first=True, padding_value=-100)
    loss = model(input_ids=ids, attention_mask=(labels != -100).long(), labels=labels).loss
    optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if step % 7 == 0:
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        print(f"step {step} loss {loss.item():.3f} memory {memory} MB")
