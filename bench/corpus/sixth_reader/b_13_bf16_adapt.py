"""Adapt a small pretrained LM to a new domain in bfloat16 to save memory."""
import argparse
import random

import torch
from transformers import GPT2Config, GPT2LMHeadModel, get_linear_schedule_with_warmup

p = argparse.ArgumentParser()
p.add_argument("--pretrain_steps", type=int, default=160)
p.add_argument("--adapt_steps", type=int, default=200)
p.add_argument("--adapt_lr", type=float, default=2e-5)
p.add_argument("--bs", type=int, default=16)
args = p.parse_args()
random.seed(31)
torch.manual_seed(31)

CH = "abcdefghijklmnopqrstuvwxyz .;"
enc = {c: i for i, c in enumerate(CH)}
NEWS = ["the mayor opened the bridge", "rain is expected in the north", "the team won the final", "prices rose again"]
LAW = ["the tenant shall pay the rent", "the parties agree to the terms", "the notice must be in writing", "no claim shall arise"]


def get_batch(source, n, length=40):
    out = []
    for _ in range(n):
        s = ". ".join(random.choice(source) for _ in range(4))
        o = random.randint(0, 20)
        out.append([enc[c] for c in s[o:o + length]])
    return torch.tensor(out)


@torch.no_grad()
def evaluate(model, source):
    model.eval()
    state = random.getstate()
    random.seed(0)
    ids = get_batch(source, 64)
    random.setstate(state)
    loss = model(input_ids=ids, labels=ids).loss.float().item()
    model.train()
    return loss


model = GPT2LMHeadModel(GPT2Config(vocab_size=len(CH), n_positions=64, n_embd=96, n_layer=2, n_head=4,
                                   resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None))

# the "pretrained" model: news with a little bit of legal text
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(args.pretrain_steps):
    ids = get_batch(NEWS if random.random() < 0.98 else LAW, args.bs)
    loss = model(input_ids=ids, labels=ids).loss
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 50 == 0:
        print(f"pretrain {step:4d} {loss.item():.3f}")
print(f"after pretraining: news {evaluate(model, NEWS):.3f} law {evaluate(model, LAW):.3f}")

# adaptation
model = model.to(torch.bfloat16)
opt = torch.optim.AdamW(model.parameters(), lr=args.adapt_lr, weight_decay=0.0, betas=(0.9, 0.99))
sched = get_linear_schedule_with_warmup(opt, 20, args.adapt_steps)
for step in range(args.adapt_steps):
    ids = get_batch(LAW, args.bs)
    loss = model(input_ids=ids, labels=ids).loss
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    sched.step()
    if step % 50 == 0 or step == args.adapt_steps - 1:
        print(f"adapt {step:4d} loss {loss.item():.3f} lr {sched.get_last_lr()[0]:.2e}")
print(f"after adaptation: news {evaluate(model, NEWS):.3f} law {evaluate(model, LAW):.3f}")
