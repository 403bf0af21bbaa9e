"""Exact Gaussian process regression: three log-parameters, full data in every step, double precision."""
import math

import torch

torch.manual_seed(2)
torch.set_default_dtype(torch.float64)


def f(x):
    return torch.sin(2 * x[:, 0]) + 0.3 * x[:, 1] ** 2


def data(n):
    x = 4 * torch.rand(n, 2) - 2
    return x, f(x) + 0.15 * torch.randn(n)


class GP(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.log_len = torch.nn.Parameter(torch.zeros(2))
        self.log_amp = torch.nn.Parameter(torch.zeros(()))
        self.log_noise = torch.nn.Parameter(torch.tensor(-1.0))

    def kernel(self, a, b):
        return (2 * self.log_amp).exp() * torch.exp(-0.5 * torch.cdist(a / self.log_len.exp(), b / self.log_len.exp()) ** 2)

    def chol(self, x):
        return torch.linalg.cholesky(self.kernel(x, x) + (2 * self.log_noise).exp() * torch.eye(len(x)))

    def forward(self, x, y):
        L = self.chol(x)
        a = torch.cholesky_solve(y[:, None], L)
        return 0.5 * (y @ a).squeeze() + L.diagonal().log().sum() + 0.5 * len(x) * math.log(2 * math.pi)

    @torch.no_grad()
    def predict(self, x, y, z):
        L = self.chol(x)
        k = self.kernel(x, z)
        mean = k.T @ torch.cholesky_solve(y[:, None], L)
        v = torch.linalg.solve_triangular(L, k, upper=False)
        var = (2 * self.log_amp).exp() - (v ** 2).sum(0) + (2 * self.log_noise).exp()
        return mean.squeeze(1), var


x, y = data(150)
xt, yt = data(500)
mu = y.mean()
gp = GP()
opt = torch.optim.Adam(gp.parameters(), lr=0.05)
for step in range(150):
    opt.zero_grad()
    loss = gp(x, y - mu)
    loss.backward()
    opt.step()
    if step % 30 == 0:
        print(f"{step} negative log marginal likelihood {loss.item():.2f} noise {gp.log_noise.exp().item():.3f}")
m, v = gp.predict(x, y - mu, xt)
rmse = ((m + mu - yt) ** 2).mean().sqrt().item()
cover = ((m + mu - yt).abs() < 1.96 * v.sqrt()).double().mean().item()
print(f"test rmse {rmse:.4f} (noise 0.15, predicting the mean {(yt - mu).std().item():.3f}); 95% interval covers {cover:.3f}")
