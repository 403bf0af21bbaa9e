"""GPT-2 from config, trained with labels == input_ids (the model shifts inside), z-loss added, logits in one go."""
import torch
from transformers import GPT2Config, GPT2LMHeadModel, set_seed

set_seed(2)
MOD = 17
EQ, BOS, V = MOD, MOD + 1, MOD + 2


def sums(n):
    """[BOS a b = a+b  (mod 17) b a+b = a+2b ...]: a chain of additions"""
    a, b = torch.randint(0, MOD, (2, n))
    cols = [torch.full((n,), BOS), a, b]
    for _ in range(4):
        a, b = b, (a + b) % MOD
        cols.append(b)
    return torch.stack(cols, 1)


pairs = sums(4000)
held = (pairs[:, 1] * 7 + pairs[:, 2] * 3) % 11 == 0      # held-out pairs (a, b)
train, test = pairs[~held], pairs[held]
model = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=8, n_embd=64, n_layer=1, n_head=4, bos_token_id=BOS,
                                   eos_token_id=EQ, resid_pdrop=0, embd_pdrop=0, attn_pdrop=0))
opt = torch.optim.AdamW(model.parameters(), lr=4e-3, weight_decay=0.3, betas=(0.9, 0.98))
for step in range(300):
    ids = train[torch.randint(len(train), (128,))]
    out = model(input_ids=ids, labels=ids)
    z = out.logits.logsumexp(-1).pow(2).mean()
    loss = out.loss + 1e-4 * z
    opt.zero_grad(set_to_none=False)
    loss.backward()
    opt.step()
    if step % 60 == 0:
        print(step, round(out.loss.item(), 3))
model.eval()
with torch.no_grad():
    p = model(input_ids=test).logits[:, 2:-1].argmax(-1)
print(f"METRIC next_number_acc_heldout {(p == test[:, 3:]).float().mean():.3f} (chance {1 / MOD:.3f})")
