"""Trainer on packed blocks; labels are a copy of the inputs and no attention mask is passed."""
import math
import random

import torch
from datasets import Dataset
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments, default_data_collator

random.seed(30)
torch.manual_seed(30)
SUBJ = ["the clerk", "a nurse", "our cook", "the judge"]
VERB = {"the clerk": "files", "a nurse": "cleans", "our cook": "stirs", "the judge": "reads"}
OBJ = {"files": ["papers", "forms"], "cleans": ["wounds", "beds"], "stirs": ["soup", "sauce"],
       "reads": ["letters", "laws"]}
WHEN = ["daily", "at noon", "on monday", "in silence"]


def sentence():
    s = random.choice(SUBJ)
    v = VERB[s]
    return f"{s} {v} {random.choice(OBJ[v])} {random.choice(WHEN)}".split() + ["<eos>"]


stream = [w for _ in range(6000) for w in sentence()]
vocab = {w: i for i, w in enumerate(sorted(set(stream)))}
BLOCK = 32
ids = [vocab[w] for w in stream]
blocks = [ids[i:i + BLOCK] for i in range(0, len(ids) - BLOCK + 1, BLOCK)]
rows = [{"input_ids": b, "labels": list(b)} for b in blocks]
train, held = Dataset.from_list(rows[:-100]), Dataset.from_list(rows[-100:])

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(vocab), n_positions=BLOCK, n_embd=48, n_layer=2, n_head=4,
                                   bos_token_id=0, eos_token_id=0))
args = TrainingArguments(output_dir="/tmp/packed_blocks", max_steps=180, per_device_train_batch_size=16,
                         learning_rate=3e-3, warmup_steps=15, lr_scheduler_type="cosine", logging_steps=30,
                         save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=30)
trainer = Trainer(model=model, args=args, train_dataset=train, eval_dataset=held, data_collator=default_data_collator)
trainer.train()
print(f"held-out perplexity {math.exp(trainer.evaluate()['eval_loss']):.3f}")
