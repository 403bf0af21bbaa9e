"""Gradient accumulation over very uneven SFT examples: summed losses, one division by all answer tokens."""
import random

import torch
import torch.nn.functional as F
from transformers import LlamaConfig, LlamaForCausalLM

random.seed(15)
torch.manual_seed(15)
DIG = 12
SEP, END, PAD = DIG, DIG + 1, DIG + 2


def example():
    s = [random.randrange(DIG)]
    step = random.choice([1, 2, 3])
    s.append((s[0] + step) % DIG)
    n = {1: 1, 2: 4, 3: 12}[step]
    a = [(s[1] + step * (i + 1)) % DIG for i in range(n)]
    return s + [SEP] + a + [END], [-100] * 3 + a + [END]


def collate(rows):
    n = max(len(r[0]) for r in rows)
    ids = torch.tensor([r[0] + [PAD] * (n - len(r[0])) for r in rows])
    lab = torch.tensor([r[1] + [-100] * (n - len(r[1])) for r in rows])
    return ids, lab, (ids != PAD).long()


train = [example() for _ in range(1920)]
held = [example() for _ in range(200)]
model = LlamaForCausalLM(LlamaConfig(vocab_size=DIG + 3, hidden_size=64, intermediate_size=128, num_hidden_layers=2,
                                     num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=32,
                                     tie_word_embeddings=True))
opt = torch.optim.AdamW(model.parameters(), lr=3e-3)


def summed_loss(ids, lab, att):
    logits = model(input_ids=ids, attention_mask=att).logits[:, :-1]
    return F.cross_entropy(logits.reshape(-1, DIG + 3), lab[:, 1:].reshape(-1), ignore_index=-100, reduction="sum")


for epoch in range(3):
    random.shuffle(train)
    for i in range(0, len(train), 32):
        micro = [collate(train[j:j + 8]) for j in range(i, i + 32, 8)]
        tokens = sum((m[1][:, 1:] != -100).sum() for m in micro)
        total = 0.0
        for m in micro:
            loss = summed_loss(*m)
            (loss / tokens).backward()
            total += loss.item()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        opt.zero_grad()
    print(f"epoch {epoch} last group: summed loss {total:.1f} over {tokens} tokens")

model.eval()
ids, lab, att = collate(held)
with torch.no_grad():
    pred = model(input_ids=ids, attention_mask=att).logits[:, :-1].argmax(-1)
keep = lab[:, 1:] != -100
print(f"held-out answer token accuracy {((pred == lab[:, 1:]) & keep).sum().item() / keep.sum().item():.3f}")
