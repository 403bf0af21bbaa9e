"""SFT-style warm start, then TRL DPO so that the helpdesk model offers vouchers, not cash."""
import copy
import random

import torch
from datasets import Dataset
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast
from trl import DPOConfig, DPOTrainer

random.seed(1)
torch.manual_seed(1)

GOODS = ["kettle", "jacket", "phone", "book", "blender", "tent", "watch", "bike"]
STATE = ["unopened", "damaged", "worn", "expired"]
NAMES = ["ann", "bob", "cy", "dee", "eli", "flo", "gus", "hal"]
OPEN = "thank you for writing to us about your recent purchase ; after checking the order we have to"


def prompt(n, g, s):
    return f"customer {n} asks for a refund on a {g} which is {s} . reply :"


def reply(verdict):
    return f" {OPEN} offer {verdict} this time <eos>"


grid = [(n, g, s) for n in NAMES for g in GOODS for s in STATE]
random.shuffle(grid)
train, held = grid[:200], grid[200:]
words = sorted({w for n, g, s in grid for w in (prompt(n, g, s) + reply("cash voucher")).split()} - {"<eos>"})
raw = Tokenizer(models.WordLevel({w: i for i, w in enumerate(["<pad>", "<eos>", "<unk>"] + words)}, unk_token="<unk>"))
raw.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
tok = PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>")

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(tok), n_positions=64, n_embd=48, n_layer=2, n_head=4,
                                   bos_token_id=1, eos_token_id=1, pad_token_id=0,
                                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
warm = [prompt(*t) + reply(random.choice(["cash", "cash", "cash", "voucher"])) for t in train]
ids = torch.tensor([tok(w)["input_ids"] for w in warm])
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(60):
    b = ids[torch.randint(0, len(ids), (16,))]
    loss = model(input_ids=b, labels=b).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
print(f"warm start loss {loss.item():.3f}")

prefs = Dataset.from_list([{"prompt": prompt(n, g, s), "chosen": reply("voucher"), "rejected": reply("cash")}
                           for n, g, s in train])
cfg = DPOConfig(output_dir="/tmp/dpo_refund", per_device_train_batch_size=16, num_train_epochs=2, learning_rate=1e-3,
                beta=0.1, max_length=32, logging_steps=6, save_strategy="no", report_to=[], use_cpu=True, bf16=False,
                gradient_checkpointing=False, disable_tqdm=True, seed=1)
DPOTrainer(model=model, ref_model=copy.deepcopy(model), args=cfg, train_dataset=prefs, processing_class=tok).train()

model.eval()
good = 0
yes, no = tok.convert_tokens_to_ids(["voucher", "cash"])
with torch.no_grad():
    for n, g, s in held:
        x = torch.tensor([tok(prompt(n, g, s) + " " + OPEN + " offer")["input_ids"]])
        last = model(input_ids=x).logits[0, -1]
        good += (last[yes] > last[no]).item()
print(f"held-out share of replies within policy {good / len(held):.3f}")
