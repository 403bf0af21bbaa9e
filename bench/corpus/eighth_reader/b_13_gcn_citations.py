"""Two-layer GCN on a synthetic citation graph, keeping the best epoch on validation."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(2)
N, C, D = 600, 4, 200
y = torch.randint(0, C, (N,))
same = y.unsqueeze(0) == y.unsqueeze(1)
A = (torch.rand(N, N) < torch.where(same, 0.012, 0.006)).float().triu(1)
A = A + A.t() + torch.eye(N)
deg = A.sum(1).rsqrt()
A_hat = deg.unsqueeze(1) * A * deg.unsqueeze(0)

centers = torch.randn(C, D) * 0.22
X = centers[y] + torch.randn(N, D)
perm = torch.randperm(N)
train_idx, val_idx, test_idx = perm[:100], perm[100:300], perm[300:]
y_obs = y.clone()
flip = train_idx[torch.rand(len(train_idx)) < 0.25]
y_obs[flip] = torch.randint(0, C, (len(flip),))


class GCN(nn.Module):
    def __init__(self, d, h, c):
        super().__init__()
        self.w1 = nn.Linear(d, h)
        self.w2 = nn.Linear(h, c)

    def forward(self, x, adj):
        h = F.relu(adj @ self.w1(x))
        return adj @ self.w2(h)


model = GCN(D, 64, C)
optimizer = torch.optim.Adam(model.parameters(), lr=0.005)


@torch.no_grad()
def acc(idx):
    model.eval()
    pred = model(X, A_hat).argmax(1)
    return (pred[idx] == y[idx]).float().mean().item()


best_val, best_epoch, best_state = 0.0, 0, None
for epoch in range(1, 201):
    model.train()
    out = model(X, A_hat)
    loss = F.cross_entropy(out[train_idx], y_obs[train_idx])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    val = acc(val_idx)
    if val > best_val:
        best_val, best_epoch = val, epoch
        best_state = model.state_dict()
    if epoch % 25 == 0:
        print(f"epoch {epoch}: loss {loss.item():.4f}  val acc {val:.3f}  (best {best_val:.3f} at {best_epoch})")

model.load_state_dict(best_state)
print(f"restored best model from epoch {best_epoch}: val acc {acc(val_idx):.3f}, test acc {acc(test_idx):.3f}")
