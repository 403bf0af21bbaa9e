"""Echo-state network: the recurrent weights are random and stay so; only a linear readout is trained (by Adam)."""
import numpy as np
import torch
import torch.nn as nn

torch.manual_seed(24)
rng = np.random.default_rng(24)


def mackey_glass(n, tau=17):
    x = [1.2 + 0.1 * rng.normal() for _ in range(tau + 1)]
    for _ in range(n + 200):
        x.append(x[-1] + 0.2 * x[-tau - 1] / (1 + x[-tau - 1] ** 10) - 0.1 * x[-1])
    return np.array(x[-n:], dtype="float32")


s = torch.from_numpy(mackey_glass(2600))
s = (s - s[:2000].mean()) / s[:2000].std()
H, AHEAD = 150, 6


class Reservoir(nn.Module):
    def __init__(self):
        super().__init__()
        w = torch.randn(H, H) * (torch.rand(H, H) < 0.1)
        self.register_buffer("w", w / torch.linalg.eigvals(w).abs().max() * 0.9)
        self.register_buffer("w_in", torch.rand(H) - 0.5)
        self.readout = nn.Linear(H + 1, 1)

    @torch.no_grad()                 # nothing inside the loop learns
    def states(self, u):
        h, out = torch.zeros(H), []
        for v in u:
            h = 0.5 * h + 0.5 * torch.tanh(self.w @ h + self.w_in * v)
            out.append(torch.cat([h, v[None]]))
        return torch.stack(out)


net = Reservoir()
st = net.states(s[:-AHEAD])[100:]
target = s[AHEAD:][100:]
scale = st[:1800].std(0)
st = st / scale
opt = torch.optim.Adam(net.parameters(), lr=2e-2)
for step in range(300):
    i = torch.randint(0, 1800, (256,))
    loss = ((net.readout(st[i]).squeeze(-1) - target[i]) ** 2).mean()
    opt.zero_grad(); loss.backward(); opt.step()
    if step % 60 == 0:
        print(step, f"{loss.item():.4f}")
with torch.no_grad():
    e = ((net.readout(st[1810:]).squeeze(-1) - target[1810:]) ** 2).mean().sqrt()
persist = ((s[1910:-AHEAD] - s[1910 + AHEAD:]) ** 2).mean().sqrt()
print(f"METRIC test_rmse {e:.3f} (persistence {persist:.3f})")
