"""Continue training a small base checkpoint on another domain (memory-friendly settings)."""
import random
import tempfile

import torch
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

torch.manual_seed(3)
random.seed(3)
VOCAB, T = 96, 24


def markov_corpus(seed, n):
    """Sequences from a sparse random Markov chain, one chain per domain."""
    g = torch.Generator().manual_seed(seed)
    nxt = torch.randint(0, VOCAB, (VOCAB, 4), generator=g)
    seqs = torch.empty(n, T, dtype=torch.long)
    seqs[:, 0] = torch.randint(0, VOCAB, (n,), generator=g)
    for t in range(1, T):
        pick = torch.randint(0, 4, (n,), generator=g)
        seqs[:, t] = nxt[seqs[:, t - 1], pick]
    return seqs


def batches(data, bs=16):
    perm = torch.randperm(len(data))
    for i in range(0, len(data) - bs + 1, bs):
        yield data[perm[i:i + bs]]


@torch.no_grad()
def evaluate(model, data):
    model.eval()
    loss = sum(model(input_ids=b, labels=b).loss.float().item() for b in data.split(32)) / len(data.split(32))
    model.train()
    return loss


general = markov_corpus(0, 960)
domain = markov_corpus(1, 1088)
domain_train, domain_val = domain[:960], domain[960:]

# base checkpoint
base = GPT2LMHeadModel(GPT2Config(vocab_size=VOCAB, n_positions=T, n_embd=64, n_layer=2, n_head=4,
                                  bos_token_id=0, eos_token_id=0))
opt = torch.optim.AdamW(base.parameters(), lr=3e-3)
for epoch in range(2):
    for b in batches(general):
        loss = base(input_ids=b, labels=b).loss
        opt.zero_grad()
        loss.backward()
        opt.step()
    print(f"base epoch {epoch}: loss {loss.item():.3f}")
ckpt = tempfile.mkdtemp()
base.save_pretrained(ckpt)

# domain adaptation
model = AutoModelForCausalLM.from_pretrained(ckpt, dtype=torch.bfloat16)
model.train()
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0)
print(f"before: domain val loss {evaluate(model, domain_val):.3f}")
step = 0
for epoch in range(3):
    for b in batches(domain_train):
        loss = model(input_ids=b, labels=b).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        step += 1
        if step % 60 == 0:
            print(f"step {step}: loss {loss.item():.3f}")
    print(f"epoch {epoch}: domain val loss {evaluate(model, domain_val):.3f}")
model.save_pretrained(ckpt + "/adapted")
