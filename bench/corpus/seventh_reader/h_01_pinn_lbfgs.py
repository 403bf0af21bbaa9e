"""Physics-informed network for a 1-D reaction-diffusion problem: Adam first, then L-BFGS.

-u'' + u = f on [0, 1] with u(0) = u(1) = 0 and the exact solution u = sin(2 pi x) + 0.3 sin(5 pi x).
"""
import math

import torch
import torch.nn as nn

torch.manual_seed(0)
torch.set_default_dtype(torch.float64)
PI = math.pi


def exact(x):
    return torch.sin(2 * PI * x) + 0.3 * torch.sin(5 * PI * x)


def source(x):
    a = (4 * PI ** 2 + 1) * torch.sin(2 * PI * x)
    return a + 0.3 * (25 * PI ** 2 + 1) * torch.sin(5 * PI * x)


class PINN(nn.Module):
    def __init__(self, width=32):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(1, width), nn.Tanh(),
            nn.Linear(width, width), nn.Tanh(),
            nn.Linear(width, width), nn.Tanh(),
            nn.Linear(width, 1),
        )
        for m in self.net:
            if isinstance(m, nn.Linear):
                nn.init.xavier_normal_(m.weight)
                nn.init.zeros_(m.bias)

    def forward(self, x):
        return self.net(2 * x - 1)


def residual(model, x):
    u = model(x)
    du = torch.autograd.grad(u, x, torch.ones_like(u), create_graph=True)[0]
    d2u = torch.autograd.grad(du, x, torch.ones_like(du), create_graph=True)[0]
    return -d2u + u - source(x)


def total_loss(model, x_in, x_bd):
    phys = residual(model, x_in).pow(2).mean()
    bound = model(x_bd).pow(2).mean()
    return phys + 500.0 * bound, phys, bound


def main():
    model = PINN()
    x_in = torch.linspace(0, 1, 120).unsqueeze(1).requires_grad_(True)
    x_bd = torch.tensor([[0.0], [1.0]])
    x_plot = torch.linspace(0, 1, 501).unsqueeze(1)

    def rel_error():
        with torch.no_grad():
            d = model(x_plot) - exact(x_plot)
            return (d.norm() / exact(x_plot).norm()).item()

    adam = torch.optim.Adam(model.parameters(), lr=2e-3)
    for it in range(1, 801):
        adam.zero_grad()
        loss, phys, bound = total_loss(model, x_in, x_bd)
        loss.backward()
        adam.step()
        if it % 200 == 0:
            print(f"adam  {it:5d}  loss {loss.item():.4e}  phys {phys.item():.3e}  bc {bound.item():.3e}  err {rel_error():.4f}")

    lbfgs = torch.optim.LBFGS(
        model.parameters(), lr=1.0, max_iter=40, history_size=50,
        tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe",
    )

    def closure():
        lbfgs.zero_grad()
        value, _, _ = total_loss(model, x_in, x_bd)
        value.backward()
        return value

    for it in range(1, 16):
        value = lbfgs.step(closure)
        if it % 3 == 0:
            print(f"lbfgs {it:5d}  loss {value.item():.4e}  err {rel_error():.5f}")
    print(f"relative L2 error {rel_error():.2e}")


if __name__ == "__main__":
    main()
