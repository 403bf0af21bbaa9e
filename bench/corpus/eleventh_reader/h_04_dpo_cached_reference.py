"""DPO in a plain loop; the reference log-probabilities are computed once and the reference is not kept.

A likelihood term on the chosen answer is added (as in RPO).
"""
import torch
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(19)
V, P, R, BETA = 16, 3, 4, 0.2
g = torch.Generator().manual_seed(77)


def prompts(n):
    return torch.randint(0, V, (n, P), generator=g)


def answer(p, step):
    return (p[:, -1:] + step * torch.arange(1, R + 1)) % V


def kind(p):
    return torch.ones_like(p[:, :1])


pool = prompts(1100)
tr, te = pool[:900], pool[900:]
good, bad = torch.cat([tr, answer(tr, kind(tr))], 1), torch.cat([tr, answer(tr, 3 - kind(tr))], 1)

model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=16, n_embd=64, n_layer=2, n_head=4, resid_pdrop=0.0,
                                   embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=0, eos_token_id=0))


def logprob(seq):
    lp = model(input_ids=seq).logits[:, P - 1:-1].log_softmax(-1)
    return lp.gather(-1, seq[:, P:, None]).squeeze(-1).sum(-1)


opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
coin = torch.rand(len(tr), 1, generator=g) < 0.5
mixed = torch.where(coin, good, bad)
for epoch in range(6):
    for idx in torch.randperm(len(mixed)).split(32):
        loss = -logprob(mixed[idx]).mean() / R
        opt.zero_grad()
        loss.backward()
        opt.step()
print(f"warm start loss {loss.item():.3f}")

with torch.no_grad():
    ref_good, ref_bad = logprob(good), logprob(bad)
opt = torch.optim.AdamW(model.parameters(), lr=2e-4, weight_decay=0.0)
for epoch in range(3):
    acc = []
    for idx in torch.randperm(len(good)).split(32):
        good_lp = logprob(good[idx])
        margin = (good_lp - ref_good[idx]) - (logprob(bad[idx]) - ref_bad[idx])
        loss = -F.logsigmoid(BETA * margin).mean() - good_lp.mean() / R
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        acc.append((margin > 0).float().mean().item())
    print(f"dpo epoch {epoch} loss {loss.item():.3f} reward accuracy {sum(acc) / len(acc):.3f}")

with torch.no_grad():
    x = te
    for _ in range(R):
        x = torch.cat([x, model(input_ids=x).logits[:, -1].argmax(-1, keepdim=True)], 1)
print(f"held-out exact answers {(x[:, P:] == answer(te, kind(te))).all(1).float().mean().item():.3f}")
