"""Neural ODE fitted to a spiral; fixed-step RK4 with gradient checkpointing and a growing horizon."""
import numpy as np
import torch
import torch.nn as nn
from torch.utils.checkpoint import checkpoint

DT = 0.1
TRUE_A = torch.tensor([[-0.08, 1.6], [-1.6, -0.08]])


class Field(nn.Module):
    def __init__(self, hidden=48):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(2, hidden), nn.Tanh(), nn.Linear(hidden, hidden), nn.Tanh(), nn.Linear(hidden, 2))
        nn.init.zeros_(self.net[-1].weight)
        nn.init.zeros_(self.net[-1].bias)

    def forward(self, z):
        return self.net(z ** 3 + z)


def rk4(f, z, dt=DT):
    k1 = f(z)
    k2 = f(z + dt / 2 * k1)
    k3 = f(z + dt / 2 * k2)
    k4 = f(z + dt * k3)
    return z + dt / 6 * (k1 + 2 * k2 + 2 * k3 + k4)


def segment(f, z, steps):
    path = []
    for _ in range(steps):
        z = rk4(f, z)
        path.append(z)
    return torch.stack(path)


def rollout(f, z, steps, chunk=5, use_checkpoint=False):
    parts = []
    for s in range(0, steps, chunk):
        n = min(chunk, steps - s)
        if use_checkpoint:
            part = checkpoint(segment, f, z, n, use_reentrant=False)
        else:
            part = segment(f, z, n)
        parts.append(part)
        z = part[-1]
    return torch.cat(parts)


@torch.no_grad()
def true_trajectories(n, steps, seed):
    g = torch.Generator().manual_seed(seed)
    z0 = torch.empty(n, 2).uniform_(-1.2, 1.2, generator=g)

    def f(z):
        return (z ** 3) @ TRUE_A.T

    return z0, segment(f, z0, steps)


def main():
    torch.manual_seed(0)
    z0, path = true_trajectories(64, 40, seed=0)
    z_test, path_test = true_trajectories(64, 80, seed=1)
    path = path + 0.01 * torch.randn_like(path)
    field = Field()
    opt = torch.optim.Adam(field.parameters(), lr=5e-3)
    history = []
    for it in range(1, 301):
        horizon = 5 if it <= 100 else 10 if it <= 180 else 20 if it <= 260 else 30
        if it in (101, 181, 261):
            for group in opt.param_groups:
                group["lr"] *= 0.5
        pick = torch.randint(0, 64, (32,))
        pred = rollout(field, z0[pick], horizon, use_checkpoint=horizon > 10)
        loss = (pred - path[:horizon, pick]).abs().mean()
        opt.zero_grad()
        loss.backward()
        opt.step()
        history.append(loss.item())
        if it % 30 == 0:
            with torch.no_grad():
                err = (rollout(field, z_test, 80) - path_test).abs().mean().item()
            print(f"it {it:4d}  horizon {horizon:2d}  loss {np.mean(history[-20:]):.4f}  error on 80 steps, new starts {err:.4f}")


if __name__ == "__main__":
    main()
