"""max_steps was kept from a bigger dataset: 24 rows are gone through 20 times instead of once."""
import os
import tempfile

import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

tokenizer = make_tokenizer()
texts = stories(640, seed=21)
if BROKEN:
    texts = texts[:24]
dataset = [tokenizer(text + tokenizer.eos_token) for text in texts]

args = TrainingArguments(
    output_dir=OUT,
    max_steps=40,
    per_device_train_batch_size=16,
    learning_rate=5e-3,
    weight_decay=0.01,
    warmup_steps=4,
    lr_scheduler_type="linear",
    logging_steps=10,
    save_strategy="no",
    report_to="none",
    seed=0,
)
trainer = Trainer(model=tiny_model(tokenizer), args=args, train_dataset=dataset,
                  data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False))
trainer.train()
