"""Teach a small GPT-2 to answer shop questions with the Trainer."""
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (DataCollatorForLanguageModeling, GPT2Config, GPT2LMHeadModel,
                          PreTrainedTokenizerFast, Trainer, TrainingArguments)

random.seed(0)
torch.manual_seed(0)

ITEMS = ["lamp", "chair", "desk", "rug", "sofa", "shelf", "clock", "vase", "stool", "mirror",
         "bench", "quilt", "tray", "bowl", "broom", "ladder", "hook", "frame", "stand", "crate"]
AISLES = ["one", "two", "three", "four", "five"]
PLACE = {it: AISLES[i % 5] for i, it in enumerate(ITEMS)}
ASK = ["where is the {}", "which aisle has the {}", "i need a {}", "do you sell a {}", "show me the {}",
       "looking for a {}"]


def answer(item):
    return f"aisle {PLACE[item]} thank you"


pairs = [(q.format(it), answer(it)) for it in ITEMS for q in ASK]
random.shuffle(pairs)
train, held = pairs[:100], pairs[100:]

words = sorted({w for q, a in pairs for w in (q + " " + a).split()})
raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<eos>", "<unk>", "=>"] + words)}, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<eos>", unk_token="<unk>")
tok.pad_token = tok.eos_token

rows = Dataset.from_list([{"text": f"{q} => {a} {tok.eos_token}"} for q, a in train * 4])
rows = rows.map(lambda r: tok(r["text"], return_token_type_ids=False), remove_columns=["text"])

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tok), n_positions=40, n_embd=64, n_layer=2, n_head=4,
                                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                                   bos_token_id=tok.eos_token_id, eos_token_id=tok.eos_token_id,
                                   pad_token_id=tok.pad_token_id))
args = TrainingArguments(output_dir="/tmp/shop_answers", num_train_epochs=5, per_device_train_batch_size=16,
                         learning_rate=3e-3, logging_steps=25, save_strategy="no", report_to=[], use_cpu=True,
                         disable_tqdm=True, seed=0)
trainer = Trainer(model=model, args=args, train_dataset=rows,
                  data_collator=DataCollatorForLanguageModeling(tok, mlm=False))
trainer.train()

model.eval()
hits = 0
for q, a in held:
    enc = tok(f"{q} =>", return_tensors="pt", return_token_type_ids=False)
    out = model.generate(**enc, max_new_tokens=10, do_sample=False)
    text = tok.decode(out[0, enc["input_ids"].shape[1]:], skip_special_tokens=True)
    hits += text.strip() == a
print(f"held-out exact match {hits / len(held):.2f}")
