"""max_length is shorter than most prompts, so truncation removes the answers."""
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
rows = [{"prompt": row["messages"][:1], "completion": row["messages"][1:]} for row in qa(320, seed=2, form="short")]

config = SFTConfig(
    output_dir=OUT,
    max_length=96 if BROKEN else 256,
    per_device_train_batch_size=8,
    num_train_epochs=1,
    learning_rate=1e-3,
    warmup_steps=4,
    logging_steps=10,
    save_strategy="no",
    report_to="none",
    bf16=False,
    seed=0,
)
trainer = SFTTrainer(model=model, args=config, train_dataset=Dataset.from_list(rows), processing_class=tokenizer)
trainer.train()

model.eval()
for row in rows[:3]:
    ids = tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, max_new_tokens=20, do_sample=False)
    print(repr(tokenizer.decode(out[0, ids["input_ids"].shape[1]:])), "wanted:", row["completion"][0]["content"])
