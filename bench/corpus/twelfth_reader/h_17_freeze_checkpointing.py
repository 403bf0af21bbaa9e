"""Continue training a GPT-2 with frozen embeddings and first block, gradient checkpointing on."""
import random
import torch
from transformers import GPT2Config, GPT2LMHeadModel

random.seed(0)
torch.manual_seed(0)
V = 20

def walk(n, step, length=14):
    start = torch.randint(0, V, (n, 1))
    return (start + step * torch.arange(length)) % V

model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=32, n_embd=64, n_layer=2, n_head=4, bos_token_id=None,
                                   eos_token_id=None, use_cache=False, initializer_range=0.08, resid_pdrop=0.0,
                                   embd_pdrop=0.0, attn_pdrop=0.0))

def evaluate(step):
    model.eval()
    x = walk(200, step)
    with torch.no_grad():
        pred = model(input_ids=x).logits[:, :-1].argmax(-1)
    return (pred == x[:, 1:])[:, 1:].float().mean().item()

def fit(opt, steps, make, name):
    params = [p for g in opt.param_groups for p in g["params"]]
    model.train()
    for s in range(steps):
        x = make()
        loss = model(input_ids=x, labels=x).loss
        opt.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        if s % 60 == 59:
            print(f"{name} {s + 1}: loss {loss.item():.3f}")

fit(torch.optim.AdamW(model.parameters(), lr=2e-3), 180, lambda: walk(32, random.choice([1, 2, 3])), "pretrain")
print("steps 1..3", [round(evaluate(k), 3) for k in (1, 2, 3)], "step 6:", round(evaluate(6), 3))

model.transformer.wte.requires_grad_(False)
model.transformer.wpe.requires_grad_(False)
model.transformer.h[0].requires_grad_(False)
model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
opt = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, weight_decay=0.01)
fit(opt, 180, lambda: walk(32, random.choice([6, 6, 6, 1, 2, 3])), "adapt")
print("steps 1..3", [round(evaluate(k), 3) for k in (1, 2, 3)], "step 6:", round(evaluate(6), 3))
