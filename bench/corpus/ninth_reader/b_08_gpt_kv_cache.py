"""minGPT-like decoder with its own key/value cache; learns to copy-and-reverse short digit strings."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(1)
L = 6                      # digits per example;  "d d d d d d | r r r r r r"
SEP, V, CTX = 10, 11, 2 * L + 1


class Block(nn.Module):
    def __init__(self, d, h):
        super().__init__()
        self.h = h
        self.n1, self.n2 = nn.LayerNorm(d), nn.LayerNorm(d)
        self.qkv, self.o = nn.Linear(d, 3 * d), nn.Linear(d, d)
        self.ff = nn.Sequential(nn.Linear(d, 4 * d), nn.GELU(), nn.Linear(4 * d, d))

    def forward(self, x, past=None):
        B, T, D = x.shape
        q, k, v = (t.view(B, T, self.h, -1).transpose(1, 2) for t in self.qkv(self.n1(x)).chunk(3, -1))
        if past is not None:
            k, v = torch.cat([past[0], k], 2), torch.cat([past[1], v], 2)
        a = F.scaled_dot_product_attention(q, k, v, is_causal=past is None)
        x = x + self.o(a.transpose(1, 2).reshape(B, T, D))
        return x + self.ff(self.n2(x)), (k, v)


class GPT(nn.Module):
    def __init__(self, d=64, h=4, n=2):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(V, d), nn.Embedding(CTX, d)
        self.blocks = nn.ModuleList(Block(d, h) for _ in range(n))
        self.norm, self.head = nn.LayerNorm(d), nn.Linear(d, V, bias=False)

    def forward(self, ids, cache=None):
        pos = torch.arange(ids.size(1))
        x = self.wte(ids) + self.wpe(pos)
        new = []
        for i, b in enumerate(self.blocks):
            x, kv = b(x, None if cache is None else cache[i])
            new.append(kv)
        return self.head(self.norm(x)), new


def data(n):
    d = torch.randint(0, 10, (n, L))
    return torch.cat([d, torch.full((n, 1), SEP), d.flip(1)], 1)


gpt = GPT()
train, test = data(5000), data(300)
opt = torch.optim.AdamW(gpt.parameters(), lr=3e-3, betas=(0.9, 0.95))
steps = 240
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=steps, pct_start=0.15)
for i in range(steps):
    b = train[torch.randint(len(train), (64,))]
    logits, _ = gpt(b[:, :-1])
    loss = F.cross_entropy(logits[:, L:].reshape(-1, V), b[:, L + 1:].reshape(-1))
    opt.zero_grad()
    loss.backward()
    opt.step()
    sched.step()
    if (i + 1) % 60 == 0:
        print(f"step {i + 1} loss {loss.item():.4f}")


@torch.no_grad()
def generate(prompt, n):
    gpt.eval()
    logits, cache = gpt(prompt)
    out = []
    for _ in range(n):
        nxt = logits[:, -1].argmax(-1, keepdim=True)
        out.append(nxt)
        logits, cache = gpt(nxt, cache)
    return torch.cat(out, 1)


pred = generate(test[:, : L + 1], L)
print(f"METRIC digit_acc {(pred == test[:, L + 1:]).float().mean():.3f}")
print(f"METRIC exact {(pred == test[:, L + 1:]).all(1).float().mean():.3f}")
