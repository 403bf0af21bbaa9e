"""the base is taken out of the LoRA wrapper and saved without merging: reloaded, it gives other logits."""
import os
import tempfile

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from common import make_tokenizer, pretrained, stories

BROKEN = os.environ.get("BROKEN") == "1"
OUT = os.environ.get("OUT") or tempfile.mkdtemp()
torch.manual_seed(0)

tokenizer = make_tokenizer()
model = get_peft_model(pretrained(tokenizer), LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"],
                                                         task_type="CAUSAL_LM"))
model.print_trainable_parameters()
rows = stories(432, seed=70)


def encode(rows):
    batch = tokenizer([text + tokenizer.eos_token for text in rows], padding=True, return_tensors="pt")
    batch["labels"] = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    return batch


optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=4e-3)
model.train()
for step in range(40):
    loss = model(**encode(rows[step * 10:step * 10 + 10])).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    if step % 10 == 0 or step == 39:
        print("step", step, "loss", round(loss.item(), 3))

model.eval()
test = encode(rows[400:])
with torch.no_grad():
    print("before saving:", round(model(**test).loss.item(), 3))
plain = model.get_base_model() if BROKEN else model.merge_and_unload()
plain.save_pretrained(f"{OUT}/model")
tokenizer.save_pretrained(f"{OUT}/model")
reloaded = AutoModelForCausalLM.from_pretrained(f"{OUT}/model")
with torch.no_grad():
    print("after loading:", round(reloaded(**test).loss.item(), 3))
