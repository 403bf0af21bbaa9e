"""several conversations are packed in one row and each can attend to those before it."""
import os

import torch
import torch.nn as nn
import torch.nn.functional as F

from common import make_tokenizer, qa

BROKEN = os.environ.get("BROKEN") == "1"
torch.manual_seed(0)
tok = make_tokenizer()
V, D, HEADS, ROW = len(tok), 64, 4, 256


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.out = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.mlp = nn.Sequential(nn.Linear(D, 4 * D), nn.GELU(), nn.Linear(4 * D, D))

    def forward(self, x, mask):
        B, T, _ = x.shape
        q, k, v = self.qkv(self.n1(x)).view(B, T, 3, HEADS, D // HEADS).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask[:, None])
        x = x + self.out(a.transpose(1, 2).reshape(B, T, D))
        return x + self.mlp(self.n2(x))


class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, D), nn.Embedding(ROW, D)
        self.blocks = nn.ModuleList([Block(), Block()])
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, V)

    def forward(self, ids, positions, documents):
        T = ids.shape[1]
        mask = torch.ones(T, T, dtype=torch.bool).tril().expand(len(ids), T, T)
        if not BROKEN:
            mask = mask & (documents[:, :, None] == documents[:, None, :])
        x = self.tok(ids) + self.pos(positions)
        for block in self.blocks:
            x = block(x, mask)
        return self.head(self.norm(x))


def pack(rows):
    """Rows of (ids, labels, positions, document numbers), filled with whole conversations, the rest padding."""
    packed, current = [], []
    for row in rows:
        prompt = tok.apply_chat_template(row["messages"][:1], add_generation_prompt=True, return_dict=False)
        whole = tok.apply_chat_template(row["messages"], return_dict=False)
        item = [(token, token if i >= len(prompt) else -100, i) for i, token in enumerate(whole)]
        if sum(map(len, current)) + len(item) > ROW:
            packed.append(current)
            current = []
        current.append(item)
    tensors = []
    for documents in packed:
        flat = [(*cell, number) for number, item in enumerate(documents) for cell in item]
        tensors.append(torch.tensor(flat + [(tok.pad_token_id, -100, 0, -1)] * (ROW - len(flat))))
    return torch.stack(tensors)


data = pack(qa(700, seed=3, form="short"))
model = Packed()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(40):
    ids, labels, positions, documents = data[step * 8:step * 8 + 8].unbind(-1)
    logits = model(ids, positions, documents)
    loss = F.cross_entropy(logits[:, :-1].reshape(-1, V), labels[:, 1:].reshape(-1), ignore_index=-100)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 8 == 0 or step == 39:
        print(f"step {step} loss {loss.item():.3f}")
