"""MAML on sine regression with torch.func."""
import math

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.func import functional_call, grad, vmap

K = 10
INNER_LR = 0.02
INNER_STEPS = 2
META_BATCH = 20


class Regressor(nn.Module):
    def __init__(self, h=40):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(1, h), nn.Tanh(), nn.Linear(h, h), nn.Tanh(), nn.Linear(h, 1))

    def forward(self, x):
        return self.net(x)


def sample_tasks(n):
    amp = torch.empty(n, 1, 1).uniform_(0.5, 3.0)
    phase = torch.empty(n, 1, 1).uniform_(0, math.pi)
    x = torch.empty(n, 2 * K, 1).uniform_(-4, 4)
    y = amp * torch.sin(x + phase)
    return x[:, :K], y[:, :K], x[:, K:], y[:, K:]


def main():
    torch.manual_seed(0)
    model = Regressor()
    params = dict(model.named_parameters())

    def loss_on(p, x, y):
        return F.mse_loss(functional_call(model, p, (x,)), y)

    def adapt(p, x, y, steps):
        for _ in range(steps):
            g = grad(loss_on)(p, x, y)
            p = {k: v - INNER_LR * g[k] for k, v in p.items()}
        return p

    def task_loss(xs, ys, xq, yq):
        return loss_on(adapt(params, xs, ys, INNER_STEPS), xq, yq)

    def evaluate(steps):
        gen_state = torch.get_rng_state()
        torch.manual_seed(4321)
        xs, ys, xq, yq = sample_tasks(200)
        torch.set_rng_state(gen_state)
        frozen = {k: v.detach() for k, v in params.items()}
        run = vmap(lambda a, b, c, d: loss_on(adapt(frozen, a, b, steps), c, d))
        return run(xs, ys, xq, yq).mean().item()

    meta_opt = torch.optim.Adam(model.parameters(), lr=2e-3)
    for it in range(1, 901):
        losses = vmap(task_loss)(*sample_tasks(META_BATCH))
        meta_loss = losses.mean()
        meta_opt.zero_grad()
        meta_loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        meta_opt.step()
        if it % 150 == 0:
            print(f"meta it {it:5d}  meta loss {meta_loss.item():.4f}  "
                  f"new tasks: 0 steps {evaluate(0):.4f}, {INNER_STEPS} steps {evaluate(INNER_STEPS):.4f}, 10 steps {evaluate(10):.4f}")


if __name__ == "__main__":
    main()
