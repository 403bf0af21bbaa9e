"""Prefix LM: full attention inside the prefix, causal on the continuation, loss on the continuation only."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(3)
V, D, H, L = 24, 64, 4, 3
EOS, SEP, PAD = 20, 21, 22
MAXN = 7


def make_batch(n):
    """prefix = random symbols + SEP, continuation = the same symbols sorted, then EOS; padded on the right."""
    ids = torch.full((n, 2 * MAXN + 2), PAD)
    prefix_len = torch.zeros(n, dtype=torch.long)
    for i in range(n):
        k = int(torch.randint(4, MAXN + 1, (1,)))
        s = torch.randperm(20)[:k]
        row = torch.cat([s, torch.tensor([SEP]), s.sort().values, torch.tensor([EOS])])
        ids[i, :len(row)] = row
        prefix_len[i] = k + 1
    return ids, prefix_len


def prefix_mask(prefix_len, T):
    pos = torch.arange(T)
    causal = pos[None, :] <= pos[:, None]
    in_prefix = pos[None, None, :] < prefix_len[:, None, None]
    return (causal[None] | in_prefix)[:, None]          # B, 1, T, T; True = may attend


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.n1, self.n2 = nn.LayerNorm(D), nn.LayerNorm(D)
        self.qkv, self.o = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.mlp = nn.Sequential(nn.Linear(D, 3 * D), nn.ReLU(), nn.Linear(3 * D, D))

    def forward(self, x, mask):
        B, T, _ = x.shape
        q, k, v = self.qkv(self.n1(x)).view(B, T, 3, H, D // H).permute(2, 0, 3, 1, 4)
        a = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        x = x + self.o(a.transpose(1, 2).reshape(B, T, D))
        return x + self.mlp(self.n2(x))


class PrefixLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.tok, self.pos = nn.Embedding(V, D, padding_idx=PAD), nn.Embedding(2 * MAXN + 2, D)
        self.layers = nn.ModuleList(Layer() for _ in range(L))
        self.norm, self.head = nn.LayerNorm(D), nn.Linear(D, V)

    def forward(self, ids, prefix_len):
        T = ids.size(1)
        mask = prefix_mask(prefix_len, T)
        x = self.tok(ids) + self.pos.weight[:T]
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(self.norm(x))


def loss_fn(model, ids, prefix_len):
    logits = model(ids[:, :-1], prefix_len)
    tgt = ids[:, 1:]
    pos = torch.arange(tgt.size(1))
    keep = (pos[None] >= (prefix_len - 1)[:, None]) & (tgt != PAD)
    return F.cross_entropy(logits[keep], tgt[keep]), (logits.argmax(-1) == tgt)[keep].float().mean()


model = PrefixLM()
opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
steps = 200
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 3e-3, total_steps=steps)
model.train()
for step in range(steps):
    ids, plen = make_batch(48)
    loss, acc = loss_fn(model, ids, plen)
    opt.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    opt.step()
    sched.step()
    if step % 50 == 0 or step == steps - 1:
        print(f"step {step:4d} loss {loss.item():.4f} token acc {acc.item():.3f}")

model.eval()
with torch.no_grad():
    ids, plen = make_batch(200)
    loss, acc = loss_fn(model, ids, plen)
    print(f"fresh data: loss {loss.item():.4f} token acc {acc.item():.3f}")
    right = 0
    for i in range(30):                                   # greedy, one at a time, no padding
        seq = ids[i:i + 1, :plen[i]]
        while seq.size(1) < 2 * MAXN + 2:
            nxt = model(seq, plen[i:i + 1])[:, -1].argmax(-1)
            seq = torch.cat([seq, nxt[:, None]], 1)
            if nxt.item() == EOS:
                break
        want = ids[i][ids[i] != PAD]
        right += int(seq.size(1) == len(want) and torch.equal(seq[0], want))
    print(f"generated exactly right: {right}/30")
