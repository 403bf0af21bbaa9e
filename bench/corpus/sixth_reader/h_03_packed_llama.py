"""Packing several documents into one row with a Llama: block-diagonal mask, position ids restart per document."""
import random

import torch
from transformers import LlamaConfig, LlamaForCausalLM

random.seed(1)
torch.manual_seed(1)
ROW = 64
V = 40
BOS, EOS = 0, 1


def doc():
    """arithmetic progression modulo 30, so the step has to be read off this document and no other"""
    start, step = random.randint(0, 29), random.randint(1, 9)
    return [BOS] + [5 + (start + i * step) % 30 for i in range(random.randint(6, 14))] + [EOS]


def pack(docs):
    """first fit; returns input_ids, position_ids, doc_ids, labels. Labels at the first token of a document are -100."""
    rows, cur = [], []
    for d in docs:
        if sum(map(len, cur)) + len(d) > ROW:
            rows.append(cur)
            cur = []
        cur.append(d)
    rows.append(cur)
    n = len(rows)
    ids = torch.full((n, ROW), EOS)
    pos = torch.zeros(n, ROW, dtype=torch.long)
    seg = torch.full((n, ROW), -1)
    labels = torch.full((n, ROW), -100)
    for i, r in enumerate(rows):
        o = 0
        for j, d in enumerate(r):
            e = o + len(d)
            ids[i, o:e] = torch.tensor(d)
            pos[i, o:e] = torch.arange(len(d))
            seg[i, o:e] = j
            labels[i, o + 1:e] = ids[i, o + 1:e]
            o = e
    return ids, pos, seg, labels


def attention_bias(seg, dtype=torch.float32):
    T = seg.size(1)
    same = seg[:, None, :] == seg[:, :, None]
    allowed = same & torch.ones(T, T, dtype=torch.bool).tril()
    bias = torch.zeros(seg.size(0), 1, T, T, dtype=dtype)
    return bias.masked_fill(~allowed[:, None], torch.finfo(dtype).min)


model = LlamaForCausalLM(LlamaConfig(
    vocab_size=V, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
    num_key_value_heads=2, max_position_embeddings=ROW, bos_token_id=BOS, eos_token_id=EOS, attn_implementation="sdpa"))
decay = [p for p in model.parameters() if p.dim() > 1]
no_decay = [p for p in model.parameters() if p.dim() <= 1]
opt = torch.optim.AdamW([{"params": decay, "weight_decay": 0.1}, {"params": no_decay, "weight_decay": 0.0}], lr=3e-3, betas=(0.9, 0.95))
train_docs = [doc() for _ in range(4000)]

step = 0
for epoch in range(2):
    random.shuffle(train_docs)
    ids, pos, seg, labels = pack(train_docs)
    order = torch.randperm(len(ids))
    for i in range(0, len(order), 8):
        b = order[i:i + 8]
        out = model(input_ids=ids[b], position_ids=pos[b], attention_mask=attention_bias(seg[b]), labels=labels[b])
        opt.zero_grad()
        out.loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        if step % 30 == 0:
            filled = (seg[b] >= 0).float().mean().item()
            print(f"epoch {epoch} step {step:3d} loss {out.loss.item():.4f} fill {filled:.2f}")
        step += 1

model.eval()
fresh = [doc() for _ in range(60)]
with torch.no_grad():
    ids, pos, seg, labels = pack(fresh)
    packed = model(input_ids=ids, position_ids=pos, attention_mask=attention_bias(seg), labels=labels).loss.item()
    nll = cnt = 0.0
    for d in fresh:
        t = torch.tensor([d])
        nll += model(input_ids=t, labels=t).loss.item() * (len(d) - 1)
        cnt += len(d) - 1
print(f"fresh documents: packed {packed:.5f}, one by one {nll / cnt:.5f} (should agree)")
