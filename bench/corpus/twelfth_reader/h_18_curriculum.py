"""Curriculum: digit sums with short sequences first, lengths growing, no shuffling inside a stage."""
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)

def parity_count(n, max_len, L=12):
    """How many ones (modulo 3) are in the sequence; 2 marks padding."""
    length = torch.randint(2, max_len + 1, (n, 1))
    x = torch.randint(0, 2, (n, L))
    valid = torch.arange(L) < length
    y = (x * valid).sum(1) % 3
    order = length.squeeze(1).argsort(stable=True)
    return torch.where(valid, x, 2)[order], y[order]

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(3, 16, padding_idx=2)
        self.gru = nn.GRU(16, 48, batch_first=True)
        self.fc = nn.Linear(48, 3)

    def forward(self, x):
        lengths = (x != 2).sum(1)
        packed = nn.utils.rnn.pack_padded_sequence(self.emb(x), lengths, batch_first=True, enforce_sorted=False)
        _, h = self.gru(packed)
        return self.fc(h[-1])

net = Net()
opt = torch.optim.Adam(net.parameters(), lr=4e-3)
x_test, y_test = parity_count(1000, 12)
for stage, max_len in enumerate([3, 5, 8, 12]):
    x, y = parity_count(2000, max_len)
    for epoch in range(5):
        net.train()
        total = 0.0
        dl = DataLoader(TensorDataset(x, y), batch_size=50, shuffle=False)
        for xb, yb in dl:
            loss = F.cross_entropy(net(xb), yb)
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            opt.step()
            total += loss.item()
    net.eval()
    with torch.no_grad():
        acc = (net(x_test).argmax(1) == y_test).float().mean().item()
    print(f"stage {stage + 1} (len <= {max_len}): loss {total / len(dl):.3f}, accuracy on all lengths {acc:.3f}")
