"""Semi-supervised GCN: full-batch training with only 20 labelled nodes per class."""
import copy

import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
N, C, D = 500, 3, 50
y = torch.randint(0, C, (N,))
prob = torch.where(y[:, None] == y[None, :], 0.03, 0.006)
up = torch.rand(N, N).lt(prob).triu(1)
src, dst = up.nonzero(as_tuple=True)
edges = torch.cat([torch.stack([src, dst]), torch.stack([dst, src]), torch.arange(N).repeat(2, 1)], 1)
deg = torch.zeros(N).index_add_(0, edges[1], torch.ones(edges.size(1)))
norm = (deg[edges[0]] * deg[edges[1]]).rsqrt()
x = 0.4 * torch.randn(C, D)[y] + torch.randn(N, D)

train_mask = torch.zeros(N, dtype=torch.bool)
for c in range(C):
    idx = (y == c).nonzero().flatten()
    train_mask[idx[torch.randperm(len(idx))[:20]]] = True
rest = (~train_mask).nonzero().flatten()
rest = rest[torch.randperm(len(rest))]
val_mask, test_mask = torch.zeros_like(train_mask), torch.zeros_like(train_mask)
val_mask[rest[:120]] = True
test_mask[rest[120:]] = True


class GCNConv(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.lin = nn.Linear(i, o)

    def forward(self, h):
        h = self.lin(h)
        return torch.zeros_like(h).index_add_(0, edges[1], norm[:, None] * h[edges[0]])


class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = GCNConv(D, 16), GCNConv(16, C)

    def forward(self, h):
        h = F.dropout(h, 0.5, self.training)
        h = F.dropout(F.relu(self.c1(h)), 0.5, self.training)
        return self.c2(h)


model = GCN()
opt = torch.optim.Adam([{"params": model.c1.parameters(), "weight_decay": 5e-4},
                        {"params": model.c2.parameters(), "weight_decay": 0.0}], lr=0.01)
best, state = 0.0, None
for epoch in range(1, 121):
    model.train()
    opt.zero_grad()
    loss = F.cross_entropy(model(x)[train_mask], y[train_mask])
    loss.backward()
    opt.step()
    model.eval()
    with torch.no_grad():
        hit = model(x).argmax(1) == y
    tr, va = hit[train_mask].float().mean().item(), hit[val_mask].float().mean().item()
    if va > best:
        best, state = va, copy.deepcopy(model.state_dict())
    if epoch % 20 == 0:
        print(f"epoch {epoch}: loss {loss.item():.3f} train acc {tr:.3f} val acc {va:.3f}")
model.load_state_dict(state)
model.eval()
with torch.no_grad():
    hit = model(x).argmax(1) == y
print(f"best val {best:.3f}, test acc {hit[test_mask].float().mean().item():.3f}")
