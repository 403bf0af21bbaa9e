"""Prefix language model: full attention inside the source words, causal in the reversed translation, loss on the answer."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(10)
N, K = 30, 7
SEP, END, V = 2 * N, 2 * N + 1, 2 * N + 2
partner = torch.randperm(N) + N


def items(n):
    x = torch.randint(0, N, (n, K))
    y = partner[x.flip(1)]
    return torch.cat([x, torch.full((n, 1), SEP), y, torch.full((n, 1), END)], 1)


data = items(3300)
train, held = data[:3000], data[3000:]
P, T, D = K + 1, 2 * K + 1, 64
visible = torch.tril(torch.ones(T, T, dtype=torch.bool))
visible[:P, :P] = True


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.o = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.ff = nn.Sequential(nn.Linear(D, 2 * D), nn.GELU(), nn.Linear(2 * D, D))

    def forward(self, x):
        B = len(x)
        q, k, v = self.qkv(self.a(x)).view(B, T, 3, 4, D // 4).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=visible)
        x = x + self.o(y.transpose(1, 2).reshape(B, T, D))
        return x + self.ff(self.b(x))


class PrefixLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, D), nn.Parameter(torch.randn(T, D))
        self.layers = nn.Sequential(Layer(), Layer())
        self.norm, self.out = nn.LayerNorm(D), nn.Linear(D, V)

    def forward(self, x):
        return self.out(self.norm(self.layers(self.tok(x) + self.pos)))


model = PrefixLM()
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
for epoch in range(5):
    total = 0.0
    for idx in torch.randperm(len(train)).split(50):
        b = train[idx]
        logits = model(b[:, :-1])[:, P - 1:]
        loss = F.cross_entropy(logits.flatten(0, 1), b[:, P:].flatten())
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        opt.step()
        total += loss.item()
    print(f"epoch {epoch} answer loss {total / 60:.3f}")
with torch.no_grad():
    acc = (model(held[:, :-1])[:, P - 1:].argmax(-1) == held[:, P:]).all(1).float().mean().item()
print(f"held-out exact translations {acc:.3f}")
