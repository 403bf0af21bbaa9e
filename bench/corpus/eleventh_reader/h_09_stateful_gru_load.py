"""Forecast electricity load with truncated backpropagation: ordered chunks, hidden state carried and detached."""
import torch
import torch.nn as nn

torch.manual_seed(33)
LANES, CHUNK, N = 16, 24, 6400
t = torch.arange(N).float()
load = torch.sin(2 * torch.pi * t / 24) + 0.5 * torch.sin(2 * torch.pi * t / 168) + 0.12 * torch.randn(N)
split = 5 * N // 6 // LANES * LANES
train, held = load[:split].view(LANES, -1), load[split:]
mu, sd = train.mean(), train.std()
train, held = (train - mu) / sd, (held - mu) / sd


class Forecaster(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(1, 40, batch_first=True)
        self.out = nn.Linear(40, 1)

    def forward(self, x, h=None):
        y, h = self.gru(x.unsqueeze(-1), h)
        return x + self.out(y).squeeze(-1), h


net = Forecaster()
opt = torch.optim.Adam(net.parameters(), lr=5e-3)
for epoch in range(25):
    h, total, count = None, 0.0, 0
    for s in range(0, train.shape[1] - 1, CHUNK):
        x = train[:, s:s + CHUNK + 1]
        if x.shape[1] < 2:
            break
        pred, h = net(x[:, :-1], h)
        h = h.detach()
        loss = nn.functional.mse_loss(pred, x[:, 1:])
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 0.5)
        opt.step()
        total, count = total + loss.item(), count + 1
    if epoch % 5 == 4:
        print(f"epoch {epoch + 1} loss {total / count:.4f}")

with torch.no_grad():
    pred, _ = net(held[None, :-1])
    mse = (pred[0, 48:] - held[49:]).square().mean().item()
    naive = (held[48:-1] - held[49:]).square().mean().item()
print(f"held-out mse {mse:.4f} (repeat-last baseline {naive:.4f})")
