import torch, torch.nn as nn, torch.nn.functional as F, random

# Sort-and-copy "translation": source letters -> the same letters sorted, variable length.
torch.manual_seed(8); random.seed(8)
PAD, BOS, EOS, A = 0, 1, 2, 3
SRC_LEN, TGT_LEN, V = 8, 9, 3 + 10


def make(n):
    src, tin, tout = [], [], []
    for _ in range(n):
        k = random.randint(3, 6)
        s = [random.randrange(10) + A for _ in range(k)]
        t = sorted(s)
        src.append(s + [EOS] + [PAD] * (SRC_LEN - k - 1))
        tin.append([BOS] + t + [PAD] * (TGT_LEN - k - 1))
        tout.append(t + [EOS] + [PAD] * (TGT_LEN - k - 1))
    return torch.tensor(src), torch.tensor(tin), torch.tensor(tout)


class Net(nn.Module):
    def __init__(self, d=48):
        super().__init__()
        self.e = nn.Embedding(V, d)
        self.p = nn.Embedding(16, d)
        self.t = nn.Transformer(d, 4, 1, 1, 96, dropout=0.0, batch_first=True)
        self.o = nn.Linear(d, V)

    def emb(self, x):
        return self.e(x) + self.p(torch.arange(x.size(1)))

    def forward(self, src, tgt):
        mask = src != PAD
        causal = torch.triu(torch.ones(tgt.size(1), tgt.size(1), dtype=torch.bool), 1)
        h = self.t(self.emb(src), self.emb(tgt), tgt_mask=causal,
                   src_key_padding_mask=mask, memory_key_padding_mask=mask)
        return self.o(h)


net = Net()
S, I, O = make(4000)
s, _, o = make(300)
opt = torch.optim.Adam(net.parameters(), lr=3e-3)
N = 280
sched = torch.optim.lr_scheduler.OneCycleLR(opt, 4e-3, total_steps=N)
for it in range(N):
    j = torch.randint(len(S), (64,))
    loss = F.cross_entropy(net(S[j], I[j]).flatten(0, 1), O[j].flatten(), ignore_index=PAD)
    opt.zero_grad(); loss.backward(); opt.step(); sched.step()
    if it % 70 == 69:
        print(it + 1, f"{loss.item():.3f}")

net.eval()
with torch.no_grad():
    y = torch.full((len(s), 1), BOS)
    for _ in range(TGT_LEN):
        y = torch.cat([y, net(s, y)[:, -1].argmax(-1, keepdim=True)], 1)
    pred = y[:, 1:]
    right = ((pred == o) | (o == PAD))
print(f"METRIC token_acc {(right & (o != PAD)).sum() / (o != PAD).sum():.3f}")
print(f"METRIC sequence_acc {right.all(1).float().mean():.3f}")
