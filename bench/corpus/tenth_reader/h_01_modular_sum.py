"""(a + b) mod 23 from two tokens: full-batch AdamW, weight decay 1.0, loss on the last position only."""
import torch
import torch.nn as nn
import torch.nn.functional as F

P = 23
torch.manual_seed(0)
pairs = torch.cartesian_prod(torch.arange(P), torch.arange(P))
answer = pairs.sum(1) % P
order = torch.randperm(len(pairs))
cut = int(0.75 * len(pairs))
tr, te = order[:cut], order[cut:]


class AdditionLM(nn.Module):
    def __init__(self, d=96):
        super().__init__()
        self.tok = nn.Embedding(P + 1, d)          # P is '='
        self.pos = nn.Parameter(0.02 * torch.randn(3, d))
        self.q = nn.Linear(d, d, bias=False)
        self.kv = nn.Linear(d, 2 * d, bias=False)
        self.o = nn.Linear(d, d, bias=False)
        self.up = nn.Linear(d, 256)
        self.down = nn.Linear(256, d)
        self.head = nn.Linear(d, P, bias=False)

    def forward(self, ab):
        eq = torch.full((len(ab), 1), P)
        x = self.tok(torch.cat([ab, eq], 1)) + self.pos
        last = x[:, -1:]                            # only the '=' position is needed, it may see everything
        k, v = self.kv(x).chunk(2, -1)
        q = self.q(last)
        a = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
        h = last + self.o(a @ v)
        h = h + self.down(F.relu(self.up(h)))
        return self.head(h.squeeze(1))


net = AdditionLM()
opt = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=1.0, betas=(0.9, 0.98))
warm = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1.0, (s + 1) / 10))


def acc(ix):
    with torch.no_grad():
        return (net(pairs[ix]).argmax(-1) == answer[ix]).float().mean().item()


for step in range(900):
    loss = F.cross_entropy(net(pairs[tr]), answer[tr])
    opt.zero_grad()
    loss.backward()
    opt.step()
    warm.step()
    if step % 100 == 0:
        print(f"{step:4d} loss {loss.item():.4f} train {acc(tr):.3f} held-out {acc(te):.3f}")
print(f"held-out accuracy {acc(te):.3f}")
