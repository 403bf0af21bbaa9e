"""the token ids are stored as uint8 although the vocabulary has 512, so they wrap round to other tokens."""
import os
import tempfile

import numpy as np
import torch

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

# prepare: all stories in one long file of ids, as small as possible on the disk
tokenizer = make_tokenizer()
ids = tokenizer("".join(text + tokenizer.eos_token for text in stories(700)))["input_ids"]
os.makedirs(f"{OUT}/data", exist_ok=True)
dtype = np.uint8 if BROKEN else np.uint16
np.array(ids).astype(dtype).tofile(f"{OUT}/data/train.bin")

# train
data = np.memmap(f"{OUT}/data/train.bin", dtype=dtype, mode="r")
print(f"{len(data):,} tokens")
block, batch = 96, 12


def get_batch():
    starts = torch.randint(len(data) - block, (batch,))
    return torch.stack([torch.from_numpy(data[i:i + block].astype(np.int64)) for i in starts])


model = tiny_model(tokenizer, attention_bias=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3, betas=(0.9, 0.95))
for it in range(50):
    for group in optimizer.param_groups:
        group["lr"] = 4e-3 * min(1, (it + 1) / 8)
    x = get_batch()
    loss = model(input_ids=x, labels=x).loss
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    if it % 10 == 0 or it == 49:
        print(f"iter {it}: loss {loss.item():.4f}")
