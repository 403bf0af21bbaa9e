"""after the resume the data start again at the first row: the first half is seen twice, the second never."""
import itertools
import os
import tempfile

import torch
from torch.utils.data import DataLoader

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
CHECKPOINT = f"{OUT}/checkpoint.pt"

tokenizer = make_tokenizer()
rows = [torch.tensor(tokenizer(text + tokenizer.eos_token)["input_ids"]) for text in stories(480)]


def collate(rows):
    pad = torch.nn.utils.rnn.pad_sequence
    return pad(rows, True, tokenizer.pad_token_id), pad(rows, True, -100)


def train(until):
    """Train one epoch of 40 updates; stop at update `until`, go on where the checkpoint ends."""
    torch.manual_seed(0)
    model = tiny_model(tokenizer)
    optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
    loader = DataLoader(rows, batch_size=12, shuffle=True, collate_fn=collate, generator=torch.Generator().manual_seed(1))
    step = 0
    if os.path.exists(CHECKPOINT):
        saved = torch.load(CHECKPOINT)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        step = saved["step"]
        print("going on at update", step)
    for ids, labels in itertools.islice(loader, 0 if BROKEN else step, None):
        loss = model(input_ids=ids, attention_mask=(labels != -100).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        step += 1
        if step % 5 == 0:
            print(f"update {step} loss {loss.item():.3f}")
        if step == until:
            break
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, CHECKPOINT)


train(until=20)  # the machine is ours until midnight
train(until=40)  # the next day
