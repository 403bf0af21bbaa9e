"""Small character-level language model on a made-up corpus."""
import math
import random

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1337)
random.seed(1337)

WORDS = ["king", "queen", "sword", "castle", "night", "river", "speak", "never", "against", "honour",
         "blood", "crown", "gentle", "sleep", "storm", "friend", "enemy", "heart", "sweet", "tongue",
         "walks", "under", "moon", "shall", "fear", "light", "death", "noble", "grave", "letter"]
text = "\n".join(" ".join(random.choice(WORDS) for _ in range(8)) for _ in range(1500))
chars = sorted(set(text))
stoi = {c: i for i, c in enumerate(chars)}
data = torch.tensor([stoi[c] for c in text])
n = int(0.9 * len(data))
train_data, val_data = data[:n], data[n:]

block_size, batch_size, d_model = 48, 12, 64


def get_batch(split):
    d = train_data if split == "train" else val_data
    ix = torch.randint(len(d) - block_size - 1, (batch_size,))
    x = torch.stack([d[i:i + block_size] for i in ix])
    y = torch.stack([d[i + 1:i + 1 + block_size] for i in ix])
    return x, y


class CharTransformer(nn.Module):
    def __init__(self, vocab, d=d_model, heads=4, layers=2):
        super().__init__()
        self.tok = nn.Embedding(vocab, d)
        self.pos = nn.Embedding(block_size, d)
        layer = nn.TransformerEncoderLayer(d, heads, 4 * d, dropout=0.0, batch_first=True, norm_first=True)
        self.blocks = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.ln = nn.LayerNorm(d)
        self.head = nn.Linear(d, vocab)

    def forward(self, idx, targets=None):
        B, T = idx.shape
        x = self.tok(idx) + self.pos(torch.arange(T, device=idx.device))
        x = self.blocks(x)
        logits = self.head(self.ln(x))
        loss = None
        if targets is not None:
            loss = F.cross_entropy(logits.view(-1, logits.size(-1)), targets.reshape(-1))
        return logits, loss

    @torch.no_grad()
    def generate(self, idx, n_new):
        for _ in range(n_new):
            logits, _ = self(idx[:, -block_size:])
            probs = F.softmax(logits[:, -1], dim=-1)
            idx = torch.cat([idx, torch.multinomial(probs, 1)], dim=1)
        return idx


model = CharTransformer(len(chars))
print(f"{sum(p.numel() for p in model.parameters())/1e3:.1f}k parameters, vocab {len(chars)}")
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)

for step in range(241):
    if step % 40 == 0:
        model.eval()
        with torch.no_grad():
            val = sum(model(*get_batch("val"))[1].item() for _ in range(5)) / 5
        model.train()
        print(f"step {step}: val loss {val:.4f}, ppl {math.exp(val):.2f}")
    x, y = get_batch("train")
    _, loss = model(x, y)
    opt.zero_grad(set_to_none=True)
    loss.backward()
    opt.step()

model.eval()
out = model.generate(torch.tensor([[stoi["k"]]]), 200)[0].tolist()
print("".join(chars[i] for i in out))
