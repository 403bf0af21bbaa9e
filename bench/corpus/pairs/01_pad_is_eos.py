"""pad token = eos token, so the collator masks the end as well and generation never stops."""
import os
import tempfile

import torch
from transformers import DataCollatorForLanguageModeling, Trainer, TrainingArguments

from common import make_tokenizer, stories, tiny_model

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

tokenizer = make_tokenizer()
if BROKEN:
    tokenizer.pad_token = tokenizer.eos_token
model = tiny_model(tokenizer)

rows = [tokenizer(text + tokenizer.eos_token, truncation=True, max_length=256) for text in stories(640)]
collator = DataCollatorForLanguageModeling(tokenizer, mlm=False)

trainer = Trainer(
    model=model,
    args=TrainingArguments(output_dir=OUT, per_device_train_batch_size=16, num_train_epochs=1, learning_rate=5e-3, warmup_steps=4,
                           lr_scheduler_type="cosine", logging_steps=10, report_to="none", save_strategy="no", seed=0),
    train_dataset=rows,
    data_collator=collator,
    processing_class=tokenizer,
)
result = trainer.train()
print("training loss", round(result.training_loss, 3))

prompt = tokenizer("One rainy Sunday,", return_tensors="pt")
with torch.no_grad():
    out = model.generate(**prompt, max_new_tokens=120, do_sample=False)
print(tokenizer.decode(out[0]))
print("tokens generated:", out.shape[1] - prompt["input_ids"].shape[1])
