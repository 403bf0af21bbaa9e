"""Train a tiny T5 to answer encyclopaedia questions; the tokenizer is trained from scratch."""
import random

import torch
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, T5Config, T5ForConditionalGeneration

random.seed(12)
torch.manual_seed(12)

CAPITAL = {"norway": "oslo", "peru": "lima", "kenya": "nairobi", "japan": "tokyo", "egypt": "cairo", "cuba": "havana",
           "france": "paris", "ghana": "accra", "italy": "rome", "qatar": "doha", "spain": "madrid", "iraq": "baghdad"}
ASK = ["what is the capital of {} ?", "name the capital city of {}", "{} has which capital ?",
       "tell me the seat of government in {}", "which city governs {} ?", "capital of {} please"]

pairs = [(q.format(c), city) for q in ASK for c, city in CAPITAL.items()]
random.shuffle(pairs)
train, held = pairs[:54], pairs[54:]

raw = Tokenizer(models.WordLevel(unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
raw.train_from_iterator((q for q, _ in pairs), trainers.WordLevelTrainer(special_tokens=["<pad>", "</s>", "<unk>"],
                                                                       show_progress=False))
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="</s>", unk_token="<unk>")

model = T5ForConditionalGeneration(T5Config(vocab_size=64, d_model=48, d_kv=12, d_ff=96, num_layers=2, num_heads=4,
                                            dropout_rate=0.05, decoder_start_token_id=0, pad_token_id=0,
                                            eos_token_id=1))
opt = torch.optim.AdamW(model.parameters(), lr=4e-3)


def batch_of(rows):
    enc = tok([q for q, _ in rows], padding=True, return_tensors="pt", return_token_type_ids=False)
    lab = tok([a + " </s>" for _, a in rows], padding=True, return_tensors="pt")["input_ids"]
    lab[lab == tok.pad_token_id] = -100
    return enc, lab


model.train()
for epoch in range(45):
    random.shuffle(train)
    total = 0.0
    for i in range(0, len(train), 18):
        enc, lab = batch_of(train[i:i + 18])
        loss = model(**enc, labels=lab).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        total += loss.item()
    if epoch % 9 == 8:
        print(f"epoch {epoch + 1} loss {total / 3:.3f}")

model.eval()
right = 0
for q, city in held:
    enc = tok(q, return_tensors="pt", return_token_type_ids=False)
    out = model.generate(**enc, max_new_tokens=4, do_sample=False)
    right += tok.decode(out[0], skip_special_tokens=True).strip() == city
print(f"held-out exact match {right / len(held):.3f}")
