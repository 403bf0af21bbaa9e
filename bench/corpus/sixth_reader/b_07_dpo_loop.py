"""Preference tuning with a hand-written DPO loop. Stage 1 is a short SFT, stage 2 is DPO against the SFT model."""
import copy
import random

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

random.seed(11)
torch.manual_seed(11)

NAMES = ["ada", "bob", "cleo", "dan"]
TOPICS = ["rain", "trains", "tea", "chess", "maps"]
POLITE = ["thank you", "of course", "happy to help"]
RUDE = ["go away", "not now", "who cares"]
BODY = ["i know a lot about", "let us talk about", "here is a note about"]
words = sorted({w for s in NAMES + TOPICS + POLITE + RUDE + BODY for w in s.split()} | {"asks", "about", ":"})
vocab = {"<pad>": 0, "<eos>": 1, **{w: i + 2 for i, w in enumerate(words)}}
BETA = 0.1


def encode(s):
    return [vocab[w] for w in s.split()]


def make_prompt():
    topic = random.choice(TOPICS)
    return f"{random.choice(NAMES)} asks about {topic} :", topic


def answer(topic, tone):
    return f"{random.choice(tone)} {random.choice(BODY)} {topic}"


def batchify(pairs):
    """pairs of (prompt, answer) -> input_ids, attention_mask, labels (-100 on the prompt and the padding)"""
    rows = [(encode(p), encode(a) + [1]) for p, a in pairs]
    L = max(len(p) + len(a) for p, a in rows)
    ids = torch.zeros(len(rows), L, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, (p, a) in enumerate(rows):
        n = len(p) + len(a)
        ids[i, :n] = torch.tensor(p + a)
        mask[i, :n] = 1
        labels[i, len(p):n] = ids[i, len(p):n]
    return ids, mask, labels


def sequence_logps(model, ids, mask, labels):
    logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1]
    tgt = labels[:, 1:]
    keep = tgt != -100
    lp = torch.gather(logits.log_softmax(-1), 2, tgt.clamp(min=0).unsqueeze(2)).squeeze(2)
    return (lp * keep).sum(-1)


model = LlamaForCausalLM(LlamaConfig(vocab_size=len(vocab), hidden_size=64, intermediate_size=128,
                                     num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=4,
                                     max_position_embeddings=64, pad_token_id=0, eos_token_id=1, bos_token_id=None))

# ---- stage 1: SFT on both tones
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(150):
    pairs = []
    for _ in range(32):
        p, topic = make_prompt()
        pairs.append((p, answer(topic, random.choice([POLITE, RUDE]))))
    ids, mask, labels = batchify(pairs)
    loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
    opt.zero_grad()
    loss.backward()
    opt.step()
    if step % 30 == 0:
        print(f"sft {step:3d} loss {loss.item():.3f}")

heldout = []
for _ in range(64):
    p, topic = make_prompt()
    heldout.append((p, answer(topic, POLITE), answer(topic, RUDE)))
first_polite = {vocab[a.split()[0]] for a in POLITE}


@torch.no_grad()
def report(tag):
    gap = (sequence_logps(model, *batchify([(p, c) for p, c, _ in heldout]))
           - sequence_logps(model, *batchify([(p, r) for p, _, r in heldout])))
    polite = 0.0
    for p, _, _ in heldout:
        probs = model(input_ids=torch.tensor([encode(p)])).logits[0, -1].softmax(-1)
        polite += probs[list(first_polite)].sum().item()
    print(f"{tag}: held-out log p gap {gap.mean().item():+.2f}, polite preferred in {(gap > 0).float().mean().item():.2f}, "
          f"probability of a polite opening {polite / len(heldout):.3f}")


report("after SFT")

# ---- stage 2: DPO, chosen and rejected go through the model in one forward pass
ref_model = copy.deepcopy(model).eval().requires_grad_(False)
opt = torch.optim.AdamW(model.parameters(), lr=5e-4)
for step in range(120):
    chosen, rejected = [], []
    for _ in range(16):
        p, topic = make_prompt()
        chosen.append((p, answer(topic, POLITE)))
        rejected.append((p, answer(topic, RUDE)))
    batch = batchify(chosen + rejected)
    logps = sequence_logps(model, *batch)
    with torch.no_grad():
        ref_logps = sequence_logps(ref_model, *batch)
    rewards = BETA * (logps - ref_logps)
    r_chosen, r_rejected = rewards.view(-1, 2).unbind(1)
    loss = -F.logsigmoid(r_chosen - r_rejected).mean()
    opt.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 20 == 0 or step == 119:
        print(f"dpo {step:3d} loss {loss.item():.4f} reward chosen {r_chosen.mean().item():+.3f} rejected {r_rejected.mean().item():+.3f}")

report("after DPO")
