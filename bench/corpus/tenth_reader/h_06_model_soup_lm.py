"""Fine-tune three times from one checkpoint (different seeds and rates), average the weights, keep if better."""
import copy
import random

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

torch.manual_seed(0)
rng = random.Random(0)
V, T = 36, 20
nxt = {d: [rng.sample(range(V), 3) for _ in range(V)] for d in ("general", "legal")}
for w in range(V):                                     # the legal domain shares two thirds of the successors
    nxt["legal"][w][:2] = nxt["general"][w][:2]


def docs(domain, n, seed):
    r, out = random.Random(seed), []
    for _ in range(n):
        s = [r.randrange(V)]
        while len(s) < T:
            s.append(r.choices(nxt[domain][s[-1]], [4, 2, 3])[0])
        out.append(s)
    return torch.tensor(out)


def loss_of(model, x):
    return model(input_ids=x, labels=x).loss


def tune(model, data, steps, lr, seed):
    g = torch.Generator().manual_seed(seed)
    opt = torch.optim.AdamW(model.parameters(), lr=lr)
    sch = torch.optim.lr_scheduler.LinearLR(opt, 1.0, 0.05, steps)
    model.train()
    for _ in range(steps):
        loss = loss_of(model, data[torch.randint(len(data), (16,), generator=g)])
        opt.zero_grad()
        loss.backward()
        opt.step()
        sch.step()
    return model


@torch.no_grad()
def score(model, x):
    model.eval()
    return loss_of(model, x).item()


general = docs("general", 1500, 1)
legal, dev, test = docs("legal", 150, 2), docs("legal", 150, 3), docs("legal", 300, 4)
base = LlamaForCausalLM(LlamaConfig(vocab_size=V, hidden_size=48, intermediate_size=96, num_hidden_layers=2,
                                    num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=T,
                                    pad_token_id=None, bos_token_id=None, eos_token_id=None))
tune(base, general, 250, 4e-3, 0)
print(f"base on legal dev {score(base, dev):.3f}")

runs = [tune(copy.deepcopy(base), legal, 80, lr, seed) for seed, lr in ((1, 2e-3), (2, 3e-3), (3, 2e-3))]
print("single runs", [round(score(m, dev), 3) for m in runs])

soup, kept = copy.deepcopy(runs[0]), []
for m in sorted(runs, key=lambda m: score(m, dev)):
    trial = kept + [m.state_dict()]
    cand = {k: torch.stack([s[k] for s in trial]).mean(0) for k in trial[0]}
    probe = copy.deepcopy(base)
    probe.load_state_dict(cand)
    if not kept or score(probe, dev) <= score(soup, dev):
        kept, soup = trial, probe
print(f"{len(kept)} of {len(runs)} in the soup")
print(f"legal test loss: base {score(base, test):.3f} best single {score(min(runs, key=lambda m: score(m, dev)), test):.3f} soup {score(soup, test):.3f}")
