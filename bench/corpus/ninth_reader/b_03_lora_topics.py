"""Pretrain a tiny GPT-2 on made-up text, then LoRA it into a 4-way topic classifier (peft)."""
import random
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, set_seed

set_seed(21)
rnd = random.Random(21)
V, T, TOPICS = 90, 20, 4
GROUPS = [list(range(10 + 18 * k, 10 + 18 * (k + 1))) for k in range(TOPICS)]


def doc():
    k = rnd.randrange(TOPICS)
    other = rnd.choice([j for j in range(TOPICS) if j != k])
    toks = []
    for _ in range(T):
        u = rnd.random()
        toks.append(rnd.choice(GROUPS[k]) if u < 0.45 else rnd.choice(GROUPS[other]) if u < 0.60 else rnd.randrange(10))
    return toks, k


def batch(n):
    d = [doc() for _ in range(n)]
    return torch.tensor([a for a, _ in d]), torch.tensor([b for _, b in d])


cfg = GPT2Config(vocab_size=V, n_positions=T, n_embd=48, n_layer=2, n_head=4, num_labels=TOPICS, pad_token_id=0,
                 resid_pdrop=0, embd_pdrop=0, attn_pdrop=0, bos_token_id=1, eos_token_id=1)
lm = GPT2LMHeadModel(cfg)
opt = torch.optim.AdamW(lm.parameters(), lr=3e-3)
for step in range(110):
    x, _ = batch(32)
    loss = lm(input_ids=x, labels=x).loss
    opt.zero_grad(); loss.backward(); opt.step()
print("lm loss", round(loss.item(), 3))

clf = GPT2ForSequenceClassification(cfg)
clf.transformer.load_state_dict(lm.transformer.state_dict())
lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=["c_attn"], fan_in_fan_out=True)
clf = get_peft_model(clf, lora)

X, Y = batch(1600)
Xv, Yv = batch(600)
X[X == 0] = 1
Xv[Xv == 0] = 1
params = [p for p in clf.parameters() if p.requires_grad]
opt = torch.optim.AdamW(params, lr=4e-3)
for epoch in range(3):
    for i in torch.randperm(len(X)).split(32):
        loss = clf(input_ids=X[i], labels=Y[i]).loss
        opt.zero_grad(); loss.backward(); opt.step()
    print("epoch", epoch, "loss", round(loss.item(), 3))
clf.eval()
with torch.no_grad():
    acc = (clf(input_ids=Xv).logits.argmax(-1) == Yv).float().mean()
print(f"METRIC val_acc {acc:.3f}")
