"""Stateful LSTM on long sensor series: truncated BPTT in order, hidden state carried over and detached."""
import torch
import torch.nn as nn

torch.manual_seed(0)
B, LENGTH, CHUNK = 16, 1500, 30


def sensors(b, n):
    """Period switches rarely; noise on top. Input is the value, target is the next value."""
    t = torch.zeros(b)
    period = 10 + 20 * torch.rand(b)
    out = []
    for _ in range(n):
        switch = torch.rand(b) < 0.004
        period = torch.where(switch, 10 + 20 * torch.rand(b), period)
        t = t + 2 * torch.pi / period
        out.append(torch.sin(t))
    return torch.stack(out, 1) + 0.05 * torch.randn(b, n)


series = sensors(B, LENGTH)
cut = 1200
train, test = series[:, :cut], series[:, cut:]
mu, sd = train.mean(), train.std()
train, test = (train - mu) / sd, (test - mu) / sd


class Forecaster(nn.Module):
    def __init__(self, h=48):
        super().__init__()
        self.rnn = nn.LSTM(1, h, batch_first=True)
        self.out = nn.Linear(h, 1)

    def forward(self, x, state=None):
        y, state = self.rnn(x.unsqueeze(-1), state)
        return self.out(y).squeeze(-1), state


model = Forecaster()
opt = torch.optim.Adam(model.parameters(), lr=5e-3)
sched = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=1)
naive = ((test[:, 1:] - test[:, :-1]) ** 2).mean().item()
print(f"naive last-value mse {naive:.4f}")

for epoch in range(1, 9):
    model.train()
    state, tot, n = None, 0.0, 0
    for s in range(0, cut - CHUNK, CHUNK):
        x, y = train[:, s:s + CHUNK], train[:, s + 1:s + CHUNK + 1]
        pred, state = model(x, state)
        state = tuple(h.detach() for h in state)
        loss = ((pred - y) ** 2).mean()
        opt.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        opt.step()
        tot, n = tot + loss.item(), n + 1
    model.eval()
    with torch.no_grad():
        _, st = model(train)
        pred, _ = model(test[:, :-1], st)
        mse = ((pred - test[:, 1:]) ** 2).mean().item()
    sched.step(tot / n)
    print(f"epoch {epoch}: train mse {tot / n:.4f} test mse {mse:.4f} lr {opt.param_groups[0]['lr']:.1e}")
