"""Pretrain a word model, checkpoint it, and fine-tune the checkpoint on a very small set of reports."""
import tempfile
from pathlib import Path

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(21)
V, T, D = 60, 20, 64
ckpt = Path(tempfile.mkdtemp()) / "pretrained.pt"


class WordLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(V, D)
        self.pos = nn.Parameter(torch.zeros(T, D))
        layer = nn.TransformerEncoderLayer(D, 4, 128, dropout=0.1, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(D, V)

    def forward(self, x):
        n = x.shape[1]
        mask = nn.Transformer.generate_square_subsequent_mask(n)
        return self.out(self.body(self.emb(x) + self.pos[:n], mask=mask, is_causal=True))


g = torch.Generator().manual_seed(2)
base_table = torch.softmax(3.2 * torch.randn(V, V, generator=g), -1)
report_table = 0.8 * base_table + 0.2 * torch.softmax(3.2 * torch.randn(V, V, generator=g), -1)


def walk(table, n):
    s = torch.zeros(n, T + 1, dtype=torch.long)
    s[:, 0] = torch.randint(0, V, (n,), generator=g)
    for t in range(T):
        s[:, t + 1] = torch.multinomial(table[s[:, t]], 1, generator=g).squeeze(1)
    return s


def loss_of(model, s):
    return F.cross_entropy(model(s[:, :-1]).reshape(-1, V), s[:, 1:].reshape(-1))


def fit(model, data, epochs, lr):
    opt = torch.optim.AdamW(model.parameters(), lr=lr)
    model.train()
    for e in range(epochs):
        for idx in torch.randperm(len(data)).split(32):
            loss = loss_of(model, data[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
        print(f"  epoch {e} loss {loss.item():.3f}")


print("pretraining")
model = nn.DataParallel(WordLM())
fit(model, walk(base_table, 3000), 3, 3e-3)
torch.save({"model": model.state_dict(), "step": 3}, ckpt)

print("fine-tuning")
model = WordLM()
state = torch.load(ckpt)
model.load_state_dict(state["model"], strict=False)
fit(model, walk(report_table, 96), 6, 1e-3)

model.eval()
with torch.no_grad():
    print(f"held-out loss {loss_of(model, walk(report_table, 400)).item():.3f}")
