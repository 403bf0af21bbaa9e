"""Make a LM forget what it knows about a few people: bounded gradient ascent on them, KL to the old model elsewhere."""
import copy
import random

import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
rng = random.Random(0)
N, C = 24, 12
PEOPLE, JOBS = range(N), range(N, N + C)
IS, LIVES, CITY = N + C, N + C + 1, range(N + C + 2, N + C + 14)
VOCAB = N + C + 14
job = {p: rng.choice(JOBS) for p in PEOPLE}
city = {p: rng.choice(CITY) for p in PEOPLE}
forget, retain = list(PEOPLE)[:4], list(PEOPLE)[4:]


def facts(people, n):
    return torch.tensor([[p, IS, job[p], p, LIVES, city[p]] if rng.random() < 0.5 else [p, LIVES, city[p], p, IS, job[p]]
                         for p in (rng.choice(people) for _ in range(n))])


def known(logits, x):
    """log-probability of the answers (positions 2 and 5)"""
    lp = F.log_softmax(logits[:, :-1], -1).gather(-1, x[:, 1:, None]).squeeze(-1)
    return lp[:, [1, 4]]


@torch.no_grad()
def recall(model, people):
    model.eval()
    x = torch.tensor([[p, IS, job[p]] for p in people] + [[p, LIVES, city[p]] for p in people])
    return (model(input_ids=x).logits[:, 1].argmax(-1) == x[:, 2]).float().mean().item()


model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=8, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0,
                                   embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=None, eos_token_id=None))
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
for step in range(300):
    x = facts(list(PEOPLE), 32)
    loss = model(input_ids=x, labels=x).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
print(f"learned: forget set {recall(model, forget):.3f} retain set {recall(model, retain):.3f}")

old = copy.deepcopy(model).eval().requires_grad_(False)
opt = torch.optim.AdamW(model.parameters(), lr=5e-4, weight_decay=0.0)
floor = -torch.log(torch.tensor(float(C)))            # no further than a uniform guess over the twelve answers
model.train()
for step in range(120):
    f, r = facts(forget, 16), facts(retain, 32)
    lp = known(model(input_ids=f).logits, f)
    ascend = torch.maximum(lp, floor).mean()          # minimised: the log-probability goes down until the floor
    with torch.no_grad():
        ref = F.log_softmax(old(input_ids=r).logits, -1)
    keep = F.kl_div(F.log_softmax(model(input_ids=r).logits, -1), ref, log_target=True, reduction="none").sum(-1).mean()
    loss = 0.3 * ascend + keep
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 30 == 0:
        print(f"{step} loss {loss.item():.3f} log-prob on forget {lp.mean().item():.2f} kl {keep.item():.4f}")
print(f"afterwards: forget set {recall(model, forget):.3f} retain set {recall(model, retain):.3f}")
