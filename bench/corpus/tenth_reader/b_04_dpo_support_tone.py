"""DPO on annotated comparisons: agents preferred short friendly replies."""
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast, set_seed
from trl import DPOConfig, DPOTrainer

set_seed(3)
rng = random.Random(3)
topics = "refund invoice delivery password login parcel voucher address".split()
friendly = ["happy to help with your {t} !", "sure , we fix your {t} today !", "thanks , your {t} is on its way !"]
stiff = ["your {t} request was rejected .", "see the terms on {t} .", "no comment on your {t} ."]
starts = ["about my {t} ?", "where is the {t} ?", "question on {t} ?", "{t} please ?"]

words = sorted({w for s in friendly + stiff + starts for w in s.replace("{t}", "").split()} | set(topics))
tk = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<eos>", "<unk>"] + words)}, unk_token="<unk>"))
tk.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=tk, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")


def comparison():
    t = rng.choice(topics)
    good, bad = rng.choice(friendly).format(t=t), rng.choice(stiff).format(t=t)
    first_good = rng.random() < 0.5
    return {"question": rng.choice(starts).format(t=t), "response_a": good if first_good else bad,
            "response_b": bad if first_good else good, "winner": "a" if first_good else "b"}


def to_pair(row):
    a, b = row["response_a"], row["response_b"]
    if rng.random() < 0.5:  # no position bias
        a, b = b, a
    chosen, rejected = (a, b) if row["winner"] == "a" else (b, a)
    return {"prompt": row["question"], "chosen": " " + chosen, "rejected": " " + rejected}


model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tok), n_positions=32, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0,
                                   embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=1, pad_token_id=0))
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(120):
    texts = []
    for _ in range(16):
        t = rng.choice(topics)
        texts.append(f"{rng.choice(starts).format(t=t)} {rng.choice(friendly + stiff).format(t=t)} <eos>")
    enc = tok(texts, padding=True, return_tensors="pt")
    labels = enc["input_ids"].masked_fill(enc["attention_mask"] == 0, -100)
    loss = model(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], labels=labels).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
print("base LM loss", round(loss.item(), 3))
model.save_pretrained("base_lm")
model = GPT2LMHeadModel.from_pretrained("base_lm")

pairs = Dataset.from_list([to_pair(comparison()) for _ in range(320)])
trainer = DPOTrainer(
    model=model, processing_class=tok, train_dataset=pairs,
    args=DPOConfig("out", beta=0.1, per_device_train_batch_size=16, num_train_epochs=2, learning_rate=3e-4, max_length=32,
                   logging_steps=10, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                   gradient_checkpointing=False, disable_tqdm=True))
trainer.train()

model.eval()
nice = 0
torch.manual_seed(0)
for i in range(4):
    for s in starts:
        enc = tok([s.format(t=t) for t in topics], return_tensors="pt", padding=True, padding_side="left")
        out = model.generate(input_ids=enc["input_ids"], attention_mask=enc["attention_mask"], max_new_tokens=10, do_sample=True, top_k=0)
        nice += sum("!" in tok.decode(o) for o in out)
print(f"friendly replies: {nice / (16 * len(topics)):.3f}")
