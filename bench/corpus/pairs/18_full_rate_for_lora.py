"""LoRA is trained with the small learning rate that suits full fine-tuning."""
import os
import tempfile

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from common import make_tokenizer, pretrained, qa

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = pretrained(tokenizer)
rows = [{"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in qa(320, seed=6, form="short")]

trainer = SFTTrainer(
    model=model,
    args=SFTConfig(output_dir=OUT, max_length=256, per_device_train_batch_size=8, num_train_epochs=1,
                   learning_rate=2e-5 if BROKEN else 1e-2, lr_scheduler_type="cosine", warmup_steps=3, logging_steps=8,
                   save_strategy="no", report_to="none", bf16=False, seed=0),
    train_dataset=Dataset.from_list(rows),
    processing_class=tokenizer,
    peft_config=LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"),
)
trainer.train()
