"""A two-layer graph convolution written by hand, semi-supervised node classification."""
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.manual_seed(0)
N, C, D = 600, 4, 20
y = torch.randint(0, C, (N,))
same = y[:, None] == y[None, :]
prob = torch.where(same, 0.03, 0.004)
A = (torch.rand(N, N) < prob).float().triu(1)
A = A + A.T
centers = torch.randn(C, D)
X = centers[y] * 0.5 + torch.randn(N, D) * 1.5

A_hat = A + torch.eye(N)
d = A_hat.sum(1).rsqrt()
A_norm = d[:, None] * A_hat * d[None, :]
perm = torch.randperm(N)
train, val, test = perm[:120], perm[120:260], perm[260:]

class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.l1, self.l2 = nn.Linear(D, 32), nn.Linear(32, C)

    def forward(self, x):
        h = F.relu(A_norm @ self.l1(x))
        return A_norm @ self.l2(F.dropout(h, 0.5, self.training))

net = GCN()
opt = torch.optim.Adam(net.parameters(), lr=1e-2, weight_decay=5e-4)
best, best_state = 0.0, None
for epoch in range(150):
    net.train()
    loss = F.cross_entropy(net(X)[train], y[train])
    opt.zero_grad()
    loss.backward()
    opt.step()
    net.eval()
    with torch.no_grad():
        val_acc = (net(X)[val].argmax(1) == y[val]).float().mean().item()
    if val_acc > best:
        best, best_state = val_acc, {k: v.clone() for k, v in net.state_dict().items()}
    if epoch % 30 == 29:
        print(f"epoch {epoch + 1} loss {loss.item():.3f} val {val_acc:.3f}")
net.load_state_dict(best_state)
net.eval()
with torch.no_grad():
    print(f"test accuracy {(net(X)[test].argmax(1) == y[test]).float().mean().item():.3f}")
