"""Full-batch L-BFGS with a closure: every step runs many forward/backward passes on the very same rows, in float64."""
import torch
import torch.nn as nn

torch.manual_seed(22)
torch.set_default_dtype(torch.float64)


def friedman(n, noise):
    x = torch.rand(n, 8)
    y = 10 * torch.sin(torch.pi * x[:, 0] * x[:, 1]) + 20 * (x[:, 2] - .5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    return x, y + noise * torch.randn(n)


x, y = friedman(800, 1.0)
xt, yt = friedman(2000, 0.0)
ym, ys = y.mean(), y.std()
net = nn.Sequential(nn.Linear(8, 24), nn.Tanh(), nn.Linear(24, 1))
opt = torch.optim.LBFGS(net.parameters(), lr=1.0, max_iter=4, history_size=20, line_search_fn="strong_wolfe")


def closure():
    opt.zero_grad()
    loss = nn.functional.mse_loss(net(x).squeeze(-1), (y - ym) / ys)
    loss = loss + 2e-3 * sum(p.pow(2).sum() for p in net.parameters() if p.ndim > 1) / 10
    loss.backward()
    return loss


for step in range(60):
    loss = opt.step(closure)
    if step % 12 == 0:
        print(step, f"{loss.item():.5f}")
with torch.no_grad():
    rmse = ((net(xt).squeeze(-1) * ys + ym - yt) ** 2).mean().sqrt()
print(f"METRIC test_rmse {rmse:.3f} (predicting the mean: {yt.std():.3f})")
