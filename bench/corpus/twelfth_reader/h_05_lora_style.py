"""LoRA fine-tuning of a small causal LM that was first trained on plain statements."""
import random
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel, get_linear_schedule_with_warmup

random.seed(2)
torch.manual_seed(2)
kinds = {"apple": "fruit", "pear": "fruit", "carrot": "vegetable", "onion": "vegetable", "eagle": "bird",
         "robin": "bird", "salmon": "fish", "trout": "fish", "oak": "tree", "birch": "tree"}
adjs = ["fresh", "big", "tiny", "old", "new", "bright", "wild", "green"]
owners = ["my", "your", "our", "their", "her", "his"]
rows = [(o, a, k) for o in owners for a in adjs for k in kinds]
random.shuffle(rows)

def plain(o, a, k):
    return f"{o} {a} {k} is a {kinds[k]} ."

def ask(o, a, k):
    return f"Q {o} {a} {k} ? A {kinds[k]} ."

stoi = {w: i for i, w in enumerate(sorted({w for r in rows for w in (plain(*r) + " " + ask(*r)).split()}))}
enc = lambda s: torch.tensor([stoi[w] for w in s.split()])

def fit(model, texts, lr, epochs):
    dl = DataLoader([enc(t) for t in texts], batch_size=24, shuffle=True)
    params = [p for p in model.parameters() if p.requires_grad]
    opt = torch.optim.AdamW(params, lr=lr)
    sched = get_linear_schedule_with_warmup(opt, 10, epochs * len(dl))
    for ep in range(epochs):
        model.train()
        tot = 0
        for ids in dl:
            loss = model(input_ids=ids, labels=ids).loss
            opt.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(params, 1.0)
            opt.step()
            sched.step()
            tot += loss.item()
        print(f"epoch {ep + 1} loss {tot / len(dl):.3f}")

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(stoi), n_positions=16, n_embd=64, n_layer=2, n_head=4,
                                   bos_token_id=None, eos_token_id=None, initializer_range=0.08,
                                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0))
fit(model, [plain(*r) for r in rows[:240]] + [f"Q A ? {' '.join(r)} ." for r in rows[:60]], 3e-3, 25)

cfg = LoraConfig(r=8, lora_alpha=32, lora_dropout=0.0, target_modules=["c_attn", "c_proj", "c_fc"],
                 fan_in_fan_out=True, task_type="CAUSAL_LM")
model = get_peft_model(model, cfg)
model.print_trainable_parameters()
fit(model, [ask(*r) for r in rows[:200]], 5e-3, 12)

model.eval()
ok = 0
for o, a, k in rows[300:]:
    ids = enc(f"Q {o} {a} {k} ? A").unsqueeze(0)
    with torch.no_grad():
        ok += model(input_ids=ids).logits[0, -1].argmax().item() == stoi[kinds[k]]
print("answer accuracy", ok / len(rows[300:]))
