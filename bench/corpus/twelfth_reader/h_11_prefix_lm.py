"""Prefix LM: the question is read in both directions, only the answer is predicted."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
V, P, A = 14, 8, 5          # symbols 0..9, 10 = query mark, 11 = answer mark, 13 = end
END = 13

def batch(n):
    """Prefix: shuffled digits followed by how often the query symbol should be found; answer: symbol count in unary."""
    digits = torch.randint(0, 4, (n, P - 2))
    query = torch.randint(0, 4, (n, 1))
    count = (digits == query).sum(1).clamp(max=A - 1)
    answer = torch.where(torch.arange(A) < count[:, None], 12, END)
    return torch.cat([digits, torch.full((n, 1), 10), query, torch.full((n, 1), 11)], 1), answer

class PrefixLM(nn.Module):
    def __init__(self, d=64):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, d), nn.Embedding(32, d)
        layer = nn.TransformerEncoderLayer(d, 4, 128, 0.0, batch_first=True, norm_first=True)
        self.body = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.out = nn.Linear(d, V)

    def forward(self, ids, n_prefix):
        T = ids.size(1)
        blocked = torch.ones(T, T, dtype=torch.bool).triu(1)
        blocked[:, :n_prefix] = False
        h = self.tok(ids) + self.pos(torch.arange(T))
        return self.out(self.body(h, mask=blocked))

model = PrefixLM()
opt = torch.optim.AdamW(model.parameters(), lr=1e-3)
for step in range(600):
    prefix, answer = batch(64)
    ids = torch.cat([prefix, answer], 1)
    logits = model(ids[:, :-1], prefix.size(1))
    targets = ids[:, 1:].clone()
    targets[:, :prefix.size(1) - 1] = -100
    loss = F.cross_entropy(logits.reshape(-1, V), targets.reshape(-1), ignore_index=-100)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    if step % 100 == 99:
        print(f"step {step + 1} loss {loss.item():.4f}")

model.eval()
prefix, answer = batch(500)
ids = prefix
with torch.no_grad():
    for _ in range(A):
        ids = torch.cat([ids, model(ids, prefix.size(1))[:, -1].argmax(-1, keepdim=True)], 1)
print("exact answers", (ids[:, prefix.size(1):] == answer).all(1).float().mean().item())
