"""Directed message passing on a payment graph: guess a shop's line of business from who pays it (plain torch)."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(77)
N, C, FEAT, DEG = 1500, 5, 16, 8
label = torch.randint(0, C, (N,))              # line of business
kind = torch.randint(0, C, (N,))               # what sort of customer the node is itself
x = torch.randn(C, FEAT)[kind] + 0.35 * torch.randn(C, FEAT)[label] + torch.randn(N, FEAT)

# each node gets payments from DEG payers, more often from the sort that suits its business.  edge = (payer, payee)
src, dst = [], []
members = [torch.nonzero(kind == c).flatten() for c in range(C)]
for v in range(N):
    for _ in range(DEG):
        m = members[label[v]] if torch.rand(()) < 0.5 else members[int(torch.randint(0, C, ()))]
        src.append(int(m[torch.randint(len(m), (1,))])); dst.append(v)
edge_index = torch.tensor([src, dst])


class MeanConv(nn.Module):
    def __init__(self, i, o):
        super().__init__()
        self.self_lin, self.nbr_lin = nn.Linear(i, o), nn.Linear(i, o, bias=False)

    def forward(self, h, edge_index):
        dst, src = edge_index
        agg = torch.zeros_like(h).index_add_(0, dst, h[src])
        deg = torch.zeros(len(h)).index_add_(0, dst, torch.ones(len(dst))).clamp(min=1)
        return self.self_lin(h) + self.nbr_lin(agg / deg[:, None])


class GNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2 = MeanConv(FEAT, 32), MeanConv(32, C)

    def forward(self, x, e):
        return self.c2(F.dropout(F.relu(self.c1(x, e)), 0.3, self.training), e)


perm = torch.randperm(N)
train, val, test = perm[:400], perm[400:700], perm[700:]
net = GNN()
opt = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=1e-3)
for epoch in range(120):
    net.train()
    loss = F.cross_entropy(net(x, edge_index)[train], label[train])
    opt.zero_grad(); loss.backward(); opt.step()
    if epoch % 30 == 0:
        net.eval()
        with torch.no_grad():
            print(epoch, f"{loss.item():.3f}", f"val {(net(x, edge_index)[val].argmax(1) == label[val]).float().mean():.3f}")
net.eval()
with torch.no_grad():
    print(f"METRIC test_acc {(net(x, edge_index)[test].argmax(1) == label[test]).float().mean():.3f}")
