"""the response marker that the collator looks for is not in the text, so every row is masked whole."""
import os
import tempfile

import torch
from transformers import Trainer, TrainingArguments

from common import make_tokenizer, qa, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = tiny_model(tokenizer)
MARKER = "\n### Response:\n" if BROKEN else "\n### Answer:\n"


def to_text(row):
    question, answer = (message["content"] for message in row["messages"])
    return f"### Question:\n{question}\n### Answer:\n{answer}{tokenizer.eos_token}"


class CompletionOnlyCollator:
    """Only what comes after the response marker is trained."""

    def __init__(self, tokenizer, marker):
        self.tokenizer = tokenizer
        self.marker = tokenizer(marker, add_special_tokens=False)["input_ids"]

    def __call__(self, rows):
        batch = self.tokenizer.pad(rows, return_tensors="pt")
        labels = batch["input_ids"].clone()
        n = len(self.marker)
        for i, ids in enumerate(batch["input_ids"].tolist()):
            start = len(ids)
            for j in range(len(ids) - n + 1):
                if ids[j:j + n] == self.marker:
                    start = j + n
                    break
            labels[i, :start] = -100
        labels[batch["attention_mask"] == 0] = -100
        batch["labels"] = labels
        return batch


rows = [tokenizer(to_text(row)) for row in qa(640, form="short")]
trainer = Trainer(
    model=model,
    args=TrainingArguments(output_dir=OUT, per_device_train_batch_size=16, num_train_epochs=1, learning_rate=3e-3, warmup_steps=4,
                           logging_steps=5, report_to="none", save_strategy="no", remove_unused_columns=False, seed=0),
    train_dataset=rows,
    data_collator=CompletionOnlyCollator(tokenizer, MARKER),
)
trainer.train()
