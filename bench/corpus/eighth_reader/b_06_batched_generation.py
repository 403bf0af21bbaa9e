"""Train a tiny GPT-2 on facts, then answer all the prompts in one batch and score exact match."""
import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed

set_seed(11)
CAPITALS = {"norway": "oslo", "france": "paris", "italy": "rome", "japan": "tokyo", "peru": "lima",
            "egypt": "cairo", "kenya": "nairobi", "cuba": "havana", "greece": "athens", "austria": "vienna"}
TEMPLATES = ["{c} capital :", "the capital of {c} is", "tell me please , the capital city of {c} is",
             "if you travel to {c} one day you will see the capital city , which is called"]
pairs = [(t.format(c=c), cap + " .") for c, cap in CAPITALS.items() for t in TEMPLATES]

raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
raw.train_from_iterator([p + " " + a for p, a in pairs],
                        trainers.WordLevelTrainer(special_tokens=["<unk>", "<pad>", "<eos>"]))
tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, unk_token="<unk>", pad_token="<pad>", eos_token="<eos>")

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_positions=64, n_embd=64, n_layer=2, n_head=4,
                                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                                   bos_token_id=2, eos_token_id=2, pad_token_id=1))
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)


def encode(batch):
    enc = tokenizer([f"{p} {a} <eos>" for p, a in batch], return_tensors="pt", padding=True)
    labels = enc["input_ids"].masked_fill(enc["attention_mask"] == 0, -100)
    return enc["input_ids"], enc["attention_mask"], labels


model.train()
for epoch in range(60):
    random.shuffle(pairs)
    losses = []
    for i in range(0, len(pairs), 10):
        ids, mask, labels = encode(pairs[i:i + 10])
        loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if epoch % 12 == 11:
        print(f"epoch {epoch + 1}: loss {sum(losses) / len(losses):.4f}")

model.eval()
prompts = [p for p, _ in pairs]
enc = tokenizer(prompts, return_tensors="pt", padding=True)
with torch.no_grad():
    out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=3,
                         do_sample=False)
answers = tokenizer.batch_decode(out[:, enc["input_ids"].shape[1]:], skip_special_tokens=True)
correct = sum(a.strip() == gold for a, (_, gold) in zip(answers, pairs))
for p, a in list(zip(prompts, answers))[:6]:
    print(f"{p!r} -> {a!r}")
print(f"exact match: {correct}/{len(pairs)}")
