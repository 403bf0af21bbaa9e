"""DPO with TRL on a tiny chat model after a short supervised warm-up."""
import copy
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed
from trl import DPOConfig, DPOTrainer

set_seed(2)
TOPICS = ["cooking", "music", "travel", "sports", "gardening", "history"]
GOOD = ["sure , here is some help with {t} .", "of course , let us talk about {t} ."]
BAD = ["no , i do not like {t} .", "go away with your {t} ."]


def row():
    t = random.choice(TOPICS)
    return {"prompt": f"can you tell me about {t} ?", "chosen": " " + random.choice(GOOD).format(t=t),
            "rejected": " " + random.choice(BAD).format(t=t)}


rows = [row() for _ in range(320)]
raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
raw.train_from_iterator([r["prompt"] + r["chosen"] + r["rejected"] for r in rows],
                        trainers.WordLevelTrainer(special_tokens=["<unk>", "<pad>", "<eos>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")
model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=48, n_layer=2, n_head=4,
                                   bos_token_id=2, eos_token_id=2, pad_token_id=1))

# warm-up: the model learns both kinds of answers equally
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
model.train()
for step in range(80):
    part = random.sample(rows, 16)
    enc = tokenizer([r["prompt"] + r[random.choice(["chosen", "rejected"])] + " <eos>" for r in part],
                    return_tensors="pt", padding=True)
    labels = enc["input_ids"].masked_fill(enc["attention_mask"] == 0, -100)
    loss = model(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], labels=labels).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 20 == 19:
        print(f"warm-up step {step + 1}: loss {loss.item():.3f}")


def share_polite():
    model.eval()
    enc = tokenizer([f"can you tell me about {t} ?" for t in TOPICS] * 5, return_tensors="pt")
    out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=12,
                         do_sample=True)
    txt = tokenizer.batch_decode(out, skip_special_tokens=True)
    return sum(("sure" in s) or ("of course" in s) for s in txt) / len(txt)


print("polite answers before DPO:", round(share_polite(), 2))
args = DPOConfig(output_dir="/tmp/h04_out", beta=0.3, learning_rate=1e-4, per_device_train_batch_size=8,
                 num_train_epochs=2, max_length=48, logging_steps=10, save_strategy="no", report_to=[], use_cpu=True,
                 bf16=False, gradient_checkpointing=False, disable_tqdm=True)
trainer = DPOTrainer(model=model, ref_model=copy.deepcopy(model).eval(), args=args, train_dataset=Dataset.from_list(rows),
                     processing_class=tokenizer)
trainer.train()
print("polite answers after DPO:", round(share_polite(), 2))
