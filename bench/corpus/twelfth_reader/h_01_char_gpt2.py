"""Character-level GPT-2 on dates written in two formats."""
import datetime
import random
import torch
from torch.utils.data import DataLoader
from transformers import GPT2Config, GPT2LMHeadModel

random.seed(1)
torch.manual_seed(1)

base = datetime.date(1990, 1, 1)
days = random.sample(range(9000), 2200)
texts = [f"{base + datetime.timedelta(d):%y/%m/%d}>{base + datetime.timedelta(d):%d %b};" for d in days]
chars = sorted(set("".join(texts)))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([[stoi[c] for c in t] for t in texts])
train, val = data[:2000], data[2000:]

model = GPT2LMHeadModel(GPT2Config(vocab_size=len(chars), n_positions=32, n_embd=64, n_layer=2, n_head=4,
                                   bos_token_id=None, eos_token_id=None))
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
loader = DataLoader(train, batch_size=64, shuffle=True)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, max_lr=2e-3, total_steps=8 * len(loader))

for epoch in range(8):
    model.train()
    running = 0.0
    for x in loader:
        opt.zero_grad()
        loss = model(input_ids=x, labels=x).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        sched.step()
        running += loss.item()
    model.eval()
    with torch.no_grad():
        val_loss = model(input_ids=val, labels=val).loss.item()
    print(f"epoch {epoch + 1}: train {running / len(loader):.3f} val {val_loss:.3f}")

prompt = val[:, :9]
with torch.no_grad():
    gen = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=val.size(1) - 9,
                         do_sample=False, pad_token_id=0)
print("exact conversions:", (gen == val).all(1).float().mean().item())
