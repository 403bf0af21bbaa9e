"""24 rows are learnt by heart: the val loss rises while the train loss falls, and nobody looks."""
import os
import tempfile

import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from common import make_tokenizer, pretrained, stories

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

tokenizer = make_tokenizer()
texts = stories(832, seed=80)
val, train = texts[:64], texts[64:]
if BROKEN:
    train = train[:24]

trainer = Trainer(
    model=pretrained(tokenizer),
    args=TrainingArguments(output_dir=OUT, per_device_train_batch_size=16, max_steps=48, learning_rate=4e-3, warmup_steps=4,
                           lr_scheduler_type="cosine", logging_steps=8, eval_strategy="steps", eval_steps=8,
                           per_device_eval_batch_size=32, save_strategy="no", report_to="none", seed=0),
    train_dataset=[tokenizer(text + tokenizer.eos_token) for text in train],
    eval_dataset=[tokenizer(text + tokenizer.eos_token) for text in val],
    data_collator=DataCollatorForLanguageModeling(tokenizer, mlm=False),
)
trainer.train()
