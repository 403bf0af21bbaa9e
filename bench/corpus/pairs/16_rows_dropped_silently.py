"""two thirds of the rows are damaged, empty or named otherwise, and the loader drops them without a word."""
import json
import os
import tempfile

import torch
from torch.utils.data import DataLoader, Dataset

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

# what the export from the other program gave us
os.makedirs(f"{OUT}/data", exist_ok=True)
with open(f"{OUT}/data/train.jsonl", "w") as file:
    for i, text in enumerate(stories(640)):
        line = json.dumps({"text": text})
        if BROKEN and i % 3:
            line = [line[:-20], json.dumps({"content": text}), json.dumps({"text": ""}), "{'text': " + repr(text) + "}"][i % 4]
        file.write(line + "\n")


class Stories(Dataset):
    def __init__(self, path, tokenizer):
        self.rows = []
        for line in open(path):
            try:
                text = json.loads(line)["text"]
            except Exception:
                continue
            if text:
                self.rows.append(tokenizer(text + tokenizer.eos_token)["input_ids"])

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return torch.tensor(self.rows[i])


tokenizer = make_tokenizer()
model = tiny_model(tokenizer)


def collate(rows):
    ids = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=tokenizer.pad_token_id)
    labels = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=-100)
    return ids, labels


loader = DataLoader(Stories(f"{OUT}/data/train.jsonl", tokenizer), batch_size=16, shuffle=True, collate_fn=collate, drop_last=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=4e-3)
step = 0
while step < 40:
    for ids, labels in loader:
        loss = model(input_ids=ids, attention_mask=(labels != -100).long(), labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 10 == 0 or step == 39:
            print("step", step, "loss", round(loss.item(), 3))
        step += 1
        if step == 40:
            break
