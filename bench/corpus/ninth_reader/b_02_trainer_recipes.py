# Fine print: a small GPT-2 (random init) learns to answer "list the ingredients of X",
# Hugging Face Trainer, word-level tokenizer made here.
import random, tempfile
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (DataCollatorForLanguageModeling, GPT2Config, GPT2LMHeadModel,
                          PreTrainedTokenizerFast, Trainer, TrainingArguments, set_seed)

set_seed(3)
DISHES = [f"dish{i}" for i in range(24)]
ITEMS = [f"item{i}" for i in range(30)]
rng = random.Random(3)
BOOK = {d: rng.sample(ITEMS, rng.randint(1, 5)) for d in DISHES}
POLITE = ["please", "kindly", "now", "quick"]

vocab = {w: i for i, w in enumerate(["<unk>", "<eos>", "list", ":"] + POLITE + DISHES + ITEMS)}
core = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>", eos_token="<eos>")
tok.pad_token = tok.eos_token


def line(d):
    return " ".join([rng.choice(POLITE), rng.choice(POLITE), "list", d, ":"] + BOOK[d] + ["<eos>"])


train = [tok(line(rng.choice(DISHES))) for _ in range(2000)]
train = [{"input_ids": t["input_ids"], "attention_mask": t["attention_mask"]} for t in train]

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(vocab), n_positions=32, n_embd=48, n_layer=2, n_head=4,
                                   bos_token_id=1, eos_token_id=1, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
args = TrainingArguments(output_dir=tempfile.mkdtemp(), per_device_train_batch_size=32, max_steps=190,
                         learning_rate=5e-3, lr_scheduler_type="cosine", warmup_steps=10, logging_steps=40,
                         save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True, seed=3)
Trainer(model=model, args=args, train_dataset=train,
        data_collator=DataCollatorForLanguageModeling(tok, mlm=False)).train()

# held-out: polite-word pairs drawn afresh; the answer must be exactly the recipe, then stop
model.eval()
good = 0
for d in DISHES:
    p = tok(f"{rng.choice(POLITE)} {rng.choice(POLITE)} list {d} :", return_tensors="pt")
    out = model.generate(input_ids=p["input_ids"], attention_mask=p["attention_mask"], max_new_tokens=12,
                         do_sample=False, pad_token_id=tok.pad_token_id)
    answer = tok.decode(out[0, p["input_ids"].shape[1]:], skip_special_tokens=True).split()
    good += answer == BOOK[d]
print(f"METRIC exact_match {good / len(DISHES):.3f}")
