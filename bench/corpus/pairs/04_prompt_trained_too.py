"""the prompt is trained as well as the answer, and the loss looks normal."""
import os
import tempfile

import torch
from datasets import Dataset
from trl import SFTConfig, SFTTrainer

from common import make_tokenizer, pretrained, qa

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = pretrained(tokenizer)
dataset = Dataset.from_list(qa(400, seed=1, form="short")).train_test_split(test_size=80, seed=0)

config = SFTConfig(
    output_dir=OUT,
    max_length=256,
    per_device_train_batch_size=8,
    num_train_epochs=1,
    learning_rate=1e-3,
    lr_scheduler_type="cosine",
    warmup_steps=4,
    logging_steps=10,
    eval_strategy="epoch",
    save_strategy="no",
    report_to="none",
    bf16=False,
    seed=0,
    assistant_only_loss=not BROKEN,  # only what the assistant says is to be learnt
)
trainer = SFTTrainer(model=model, args=config, train_dataset=dataset["train"], eval_dataset=dataset["test"],
                     processing_class=tokenizer)
trainer.train()
print({key: round(value, 3) for key, value in trainer.evaluate().items() if "loss" in key})
