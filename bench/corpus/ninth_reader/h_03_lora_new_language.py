"""Adapt a tiny GPT-2 to a shifted 'dialect' with LoRA on attention + mlp; only ~10% of the weights move."""
import random
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

set_seed(4)
rnd = random.Random(4)
V, T = 50, 20
base_next = [[rnd.randrange(V) for _ in range(3)] for _ in range(V)]
dialect = [list(r) for r in base_next]
for i in rnd.sample(range(V), 20):
    dialect[i] = [rnd.randrange(V) for _ in range(3)]


def batch(n, table):
    rows = []
    for _ in range(n):
        w, row = rnd.randrange(V), []
        for _ in range(T):
            row.append(w)
            w = rnd.choices(table[w], weights=(8, 1.5, .5))[0]
        rows.append(row)
    return torch.tensor(rows)


model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=T, n_embd=48, n_layer=2, n_head=4, resid_pdrop=0,
                                   embd_pdrop=0, attn_pdrop=0, bos_token_id=0, eos_token_id=0))


def fit(m, table, steps, lr):
    opt = torch.optim.AdamW((p for p in m.parameters() if p.requires_grad), lr=lr)
    for s in range(steps):
        x = batch(32, table)
        loss = m(input_ids=x, labels=x).loss
        opt.zero_grad(); loss.backward(); opt.step()
        if s % 50 == 0:
            print("step", s, round(loss.item(), 3))


fit(model, base_next, 100, 5e-3)
test = batch(200, dialect)
model.eval()
with torch.no_grad():
    before = model(input_ids=test, labels=test).loss.item()
# B starts at zero, so at the first step A has exactly no gradient; the model stays in eval() (there is no dropout)
lora = get_peft_model(model, LoraConfig(task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=32, lora_dropout=0.0,
                                        target_modules=["c_attn", "c_proj", "c_fc"], fan_in_fan_out=True))
lora.print_trainable_parameters()
fit(lora, dialect, 130, 6e-3)
merged = lora.merge_and_unload().eval()
with torch.no_grad():
    after = merged(input_ids=test, labels=test).loss.item()
print(f"METRIC dialect_nll before {before:.3f} after {after:.3f}")
