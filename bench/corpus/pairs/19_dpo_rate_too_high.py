"""DPO with a learning rate from training from scratch, far too high for preferences."""
import os
import random
import tempfile

import torch
from datasets import Dataset
from trl import DPOConfig, DPOTrainer

from common import make_tokenizer, pretrained, village

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)
random.seed(0)

tokenizer = make_tokenizer()
model = pretrained(tokenizer)


def pair(row):
    """Prefer the short answer to the whole sentence."""
    return {"prompt": [{"role": "user", "content": row["text"] + "\n" + row["question"]}],
            "chosen": [{"role": "assistant", "content": row["short"]}],
            "rejected": [{"role": "assistant", "content": row["whole"]}]}


dataset = Dataset.from_list([pair(row) for row in village(160, seed=12)])
args = DPOConfig(output_dir=OUT, per_device_train_batch_size=4, num_train_epochs=1, learning_rate=3e-2 if BROKEN else 1e-4, beta=0.1,
                 max_length=256, warmup_steps=4, logging_steps=8, save_strategy="no", report_to="none", bf16=False, seed=0)
trainer = DPOTrainer(model=model, args=args, train_dataset=dataset, processing_class=tokenizer)
trainer.train()
