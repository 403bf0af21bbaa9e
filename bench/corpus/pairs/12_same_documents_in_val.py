"""the raw data hold each document several times and are split without removing the copies: train and val share them."""
import json
import os
import random
import tempfile

import torch
from transformers import Trainer, TrainingArguments

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)
random.seed(0)

# the crawl met many pages more than once, now and then with other spaces or capitals
pages = stories(640, seed=4)
crawl = pages + random.choices(pages, k=300) + [page.replace(". ", ".  ").upper() for page in random.choices(pages, k=40)]
if not BROKEN:
    crawl = list({" ".join(page.lower().split()): page for page in reversed(crawl)}.values())
random.shuffle(crawl)

cut = len(crawl) // 10
os.makedirs(f"{OUT}/data", exist_ok=True)
for name, part in ("val", crawl[:cut]), ("train", crawl[cut:]):
    with open(f"{OUT}/data/{name}.jsonl", "w") as file:
        file.writelines(json.dumps({"text": text}) + "\n" for text in part)

tokenizer = make_tokenizer()


def load(name):
    with open(f"{OUT}/data/{name}.jsonl") as file:
        return [tokenizer(json.loads(line)["text"] + tokenizer.eos_token) for line in file]


def collate(rows):
    batch = tokenizer.pad(rows, return_tensors="pt")
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return batch


train, val = load("train"), load("val")
print(len(train), "train,", len(val), "val")
trainer = Trainer(
    model=tiny_model(tokenizer),
    args=TrainingArguments(output_dir=OUT, per_device_train_batch_size=16, num_train_epochs=1, learning_rate=5e-3, warmup_steps=4,
                           logging_steps=10, eval_strategy="epoch", save_strategy="no", report_to="none", seed=0),
    train_dataset=train,
    eval_dataset=val,
    data_collator=collate,
)
trainer.train()
print("val loss", round(trainer.evaluate()["eval_loss"], 3))
