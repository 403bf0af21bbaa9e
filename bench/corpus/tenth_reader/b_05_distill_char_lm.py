import argparse
import random

import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

p = argparse.ArgumentParser()
p.add_argument("--T", type=float, default=2.0)
p.add_argument("--alpha", type=float, default=0.9, help="weight of the soft targets")
p.add_argument("--teacher_steps", type=int, default=170)
p.add_argument("--student_steps", type=int, default=200)
args = p.parse_args()
T = args.T
random.seed(3)
torch.manual_seed(3)

CTX, V = 32, 26
# second-order source: the next symbol depends on the previous two
table = torch.randint(0, V, (V, V, 3))


def stream(n):
    a, b, out = 0, 1, []
    for _ in range(n):
        c = int(table[a % 5, b, random.choices([0, 1, 2], [7, 2, 1])[0]])
        out.append(c)
        a, b = b, c
    return torch.tensor(out)


train_ids, test_ids = stream(24000), stream(4000)


def batch(ids, n=16):
    i = torch.randint(0, len(ids) - CTX, (n,))
    return torch.stack([ids[j:j + CTX] for j in i])


def make(d, layers, heads):
    return GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=CTX, n_embd=d, n_layer=layers, n_head=heads,
                                      resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0,
                                      bos_token_id=0, eos_token_id=0))


@torch.no_grad()
def evaluate(m):
    m.eval()
    x = test_ids[: len(test_ids) // CTX * CTX].view(-1, CTX)
    return m(input_ids=x, labels=x).loss.item()


teacher = make(64, 2, 4)
opt = torch.optim.AdamW(teacher.parameters(), lr=2e-3)
for step in range(args.teacher_steps):
    x = batch(train_ids)
    loss = teacher(input_ids=x, labels=x).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
print(f"teacher test loss {evaluate(teacher):.3f}")
teacher.requires_grad_(False)

student = make(48, 1, 2)
opt = torch.optim.AdamW(student.parameters(), lr=3e-3)
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 3e-3, total_steps=args.student_steps)
kl = nn.KLDivLoss(reduction="sum")
for step in range(args.student_steps):
    student.train()
    x = batch(train_ids)
    with torch.no_grad():
        t = teacher(input_ids=x).logits
    out = student(input_ids=x, labels=x)
    s = out.logits
    soft = kl(F.softmax(s / T, dim=-1), F.softmax(t / T, dim=-1)) * T * T / x.numel()
    loss = args.alpha * soft + (1 - args.alpha) * out.loss
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(student.parameters(), 1.0)
    opt.step()
    sched.step()
    if step % 60 == 0:
        print(step, f"soft {soft.item():.4f} hard {out.loss.item():.4f}")

print(f"student test loss {evaluate(student):.3f}")
