"""Preference tuning (DPO) of a small language model that was first trained on mixed replies."""
import copy
import random
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

random.seed(0)
torch.manual_seed(0)
items = ["bread", "milk", "tea", "rice", "soap", "salt", "fish", "corn", "beans", "eggs"]
places = ["shop", "market", "store", "bakery", "kiosk", "mall"]
polite = "sure , you find {} in the {} , have a nice day <eos>"
rude = "look for {} in the {} yourself , go away from here now <eos>"
combos = [(i, p) for i in items for p in places]
random.shuffle(combos)
train, test = combos[:42], combos[42:]
ask = "i need {} from the {} <ans>"
vocab = ["<pad>"] + sorted({w for i, p in combos for s in (ask, polite, rude) for w in s.format(i, p).split()})
stoi = {w: k for k, w in enumerate(vocab)}
enc = lambda s: torch.tensor([stoi[w] for w in s.split()])
PROMPT = 7

def rows(template, subset):
    return torch.stack([torch.cat([enc(ask.format(i, p)), enc(template.format(i, p))]) for i, p in subset])

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(vocab), n_positions=32, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0,
                                   embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=stoi["<eos>"],
                                   initializer_range=0.08))
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
polite_rows, rude_rows = rows(polite, train), rows(rude, train)
for step in range(220):
    idx = torch.randint(0, len(train), (16,))
    ids = torch.cat([polite_rows[idx[:8]], rude_rows[idx[8:]]])
    loss = model(input_ids=ids, labels=ids).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
print(f"sft loss {loss.item():.3f}")

def logp(m, ids):
    lp = F.log_softmax(m(input_ids=ids).logits[:, :-1], -1).gather(-1, ids[:, 1:, None]).squeeze(-1)
    return lp[:, PROMPT - 1:].sum(-1)

# annotated pairs: two replies in random order and the index (0 or 1) of the one the annotator preferred
preferred = torch.randint(0, 2, (len(train), 1))
reply_0 = torch.where(preferred == 0, polite_rows, rude_rows)
reply_1 = torch.where(preferred == 0, rude_rows, polite_rows)
chosen = torch.where(preferred.bool(), reply_0, reply_1)
rejected = torch.where(preferred.bool(), reply_1, reply_0)

ref_model = copy.deepcopy(model).eval().requires_grad_(False)
beta = 0.1
opt = torch.optim.AdamW(model.parameters(), lr=5e-5)
for step in range(60):
    idx = torch.randint(0, len(train), (16,))
    with torch.no_grad():
        ref_c, ref_r = logp(ref_model, chosen[idx]), logp(ref_model, rejected[idx])
    margin = (logp(model, chosen[idx]) - ref_c) - (logp(model, rejected[idx]) - ref_r)
    loss = -F.logsigmoid(beta * margin).mean()
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 15 == 14:
        print(f"step {step + 1}: dpo loss {loss.item():.4f}")

model.eval()
prompts = torch.stack([enc(ask.format(i, p)) for i, p in test])
out = model.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=16, do_sample=False, pad_token_id=0)
good = 0
for (i, p), row in zip(test, out[:, PROMPT:].tolist()):
    good += " ".join(vocab[k] for k in row if k).startswith(polite.format(i, p))
print("sample:", " ".join(vocab[k] for k in out[0, PROMPT:].tolist()))
print(f"polite and correct replies to new requests: {good / len(test):.3f}")
with torch.no_grad():
    print(f"mean log-probability of the polite reply: {logp(model, rows(polite, test)).mean().item():.2f}")
