"""GRPO written by hand: strictly on policy, so the surrogate's value is near zero while its gradient is not."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(17)
V, PROMPT, COMP, G, B = 12, 4, 5, 16, 8
EOS, BOS = 10, 11

policy = GPT2LMHeadModel(GPT2Config(vocab_size=V, n_positions=16, n_embd=48, n_layer=2, n_head=4, resid_pdrop=0.0,
                                    embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=BOS, eos_token_id=EOS))


def prompts(n):
    return torch.cat([torch.full((n, 1), BOS), torch.randint(0, 10, (n, PROMPT - 1))], 1)


@torch.no_grad()
def sample(ids, n):
    done = torch.zeros(len(ids), dtype=torch.bool)
    for _ in range(n):
        p = policy(input_ids=ids).logits[:, -1].softmax(-1)
        nxt = torch.multinomial(p, 1)
        nxt[done] = EOS
        done |= nxt[:, 0] == EOS
        ids = torch.cat([ids, nxt], 1)
    return ids


def completion_mask(comp):
    """tokens up to and including the first EOS"""
    is_eos = comp == EOS
    before = is_eos.cumsum(1) - is_eos.long()
    return (before == 0).float()


def reward_fn(ids):
    """share of completion tokens equal to the last prompt symbol, EOS never counts"""
    last = ids[:, PROMPT - 1:PROMPT]
    comp = ids[:, PROMPT:]
    return (comp == last).float().mean(1)


def token_logps(model, ids):
    lp = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
    return lp.gather(2, ids[:, 1:, None]).squeeze(2)[:, PROMPT - 1:]


reference = GPT2LMHeadModel(policy.config)
reference.load_state_dict(policy.state_dict())
reference.eval().requires_grad_(False)
optimizer = torch.optim.AdamW(policy.parameters(), lr=1.5e-3, weight_decay=0.0)
BETA = 0.005
for it in range(90):
    policy.eval()
    x = prompts(B).repeat_interleave(G, 0)
    ids = sample(x, COMP)
    r = reward_fn(ids)
    grouped = r.view(B, G)
    adv = ((grouped - grouped.mean(1, keepdim=True)) / (grouped.std(1, keepdim=True) + 1e-4)).view(-1, 1)
    mask = completion_mask(ids[:, PROMPT:])

    policy.train()
    lp = token_logps(policy, ids)
    with torch.no_grad():
        ref_lp = token_logps(reference, ids)
    ratio = (lp - lp.detach()).exp()                    # equals one; carries the gradient
    kl = (ref_lp - lp).exp() - (ref_lp - lp) - 1
    pg = -(ratio * adv * mask).sum(1) / mask.sum(1)
    loss = (pg + BETA * (kl * mask).sum(1) / mask.sum(1)).mean()
    optimizer.zero_grad()
    loss.backward()
    gn = nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    if it % 15 == 0 or it == 89:
        print(f"iter {it:3d} loss {loss.item():+.4f} reward {r.mean():.3f} kl {(kl * mask).sum() / mask.sum():.3f} grad norm {gn:.3f}")

policy.eval()
final = reward_fn(sample(prompts(256), COMP)).mean().item()
print(f"reward on fresh prompts {final:.3f} (random policy {1 / V:.3f})")
