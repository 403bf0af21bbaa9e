"""Eight networks trained at once with torch.func (stacked weights); the spread serves as uncertainty."""
import copy

import torch
from torch import nn
from torch.func import functional_call, stack_module_state, vmap

torch.manual_seed(5)
M = 8


def truth(x):
    return torch.sin(3 * x[:, :1]) * x[:, 1:2] + 0.5 * x[:, 2:3]


def sample(n, lo=-1.0, hi=1.0):
    x = lo + (hi - lo) * torch.rand(n, 3)
    return x, truth(x) + 0.1 * torch.randn(n, 1)


def member():
    return nn.Sequential(nn.Linear(3, 48), nn.Tanh(), nn.Linear(48, 48), nn.Tanh(), nn.Linear(48, 1))


models = [member() for _ in range(M)]
params, buffers = stack_module_state(models)
skeleton = copy.deepcopy(models[0]).to("meta")


def call(p, b, x):
    return functional_call(skeleton, (p, b), (x,))


x, y = sample(600)
xt, yt = sample(500)
boot = torch.randint(len(x), (M, len(x)))                 # each member has its own bootstrap sample
opt = torch.optim.Adam(params.values(), lr=5e-3)
sched = torch.optim.lr_scheduler.CosineAnnealingLR(opt, 50)
for epoch in range(50):
    perm = torch.argsort(torch.rand(M, len(x)), dim=1)
    idx = boot.gather(1, perm)
    for i in range(0, len(x), 100):
        rows = idx[:, i:i + 100]
        pred = vmap(call)(params, buffers, x[rows])
        loss = ((pred - y[rows]) ** 2).mean((1, 2)).sum()  # members do not share weights: a sum keeps them independent
        opt.zero_grad()
        loss.backward()
        opt.step()
    sched.step()
    if epoch % 10 == 9:
        print(f"epoch {epoch} mean member loss {loss.item() / M:.4f}")


@torch.no_grad()
def predict(z):
    p = vmap(call, in_dims=(0, 0, None))(params, buffers, z)
    return p.mean(0), p.std(0), p


mean, std, every = predict(xt)
far = 2 + torch.rand(500, 3)
print(f"rmse of a member {((every - yt) ** 2).mean((1, 2)).sqrt().mean().item():.4f} of the ensemble {((mean - yt) ** 2).mean().sqrt().item():.4f} "
      f"(noise 0.1); spread inside {std.mean().item():.3f} outside {predict(far)[1].mean().item():.3f}")
