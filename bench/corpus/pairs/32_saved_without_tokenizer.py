"""the Trainer does not know the tokenizer, so the saved folder holds neither tokenizer nor chat template."""
import os
import tempfile

import torch
from torch.nn.utils.rnn import pad_sequence
from transformers import Trainer, TrainingArguments

from common import make_tokenizer, pretrained, qa

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = pretrained(tokenizer)


def encode(row):
    prompt = tokenizer.apply_chat_template(row["messages"][:1], add_generation_prompt=True, return_dict=False)
    answer = tokenizer(row["messages"][1]["content"] + tokenizer.eos_token)["input_ids"]
    return {"input_ids": prompt + answer, "labels": [-100] * len(prompt) + answer}


def collate(rows):
    ids = pad_sequence([torch.tensor(row["input_ids"]) for row in rows], batch_first=True, padding_value=tokenizer.pad_token_id)
    labels = pad_sequence([torch.tensor(row["labels"]) for row in rows], batch_first=True, padding_value=-100)
    return {"input_ids": ids, "attention_mask": (ids != tokenizer.pad_token_id).long(), "labels": labels}


trainer = Trainer(
    model=model,
    args=TrainingArguments(output_dir=OUT, per_device_train_batch_size=12, num_train_epochs=1, learning_rate=1e-3,
                           warmup_steps=4, logging_steps=10, save_strategy="no", report_to="none", seed=0),
    train_dataset=[encode(row) for row in qa(480, seed=60, form="short")],
    data_collator=collate,
    processing_class=None if BROKEN else tokenizer,
)
trainer.train()
trainer.save_model(f"{OUT}/model")
print("saved:", sorted(os.listdir(f"{OUT}/model")))
