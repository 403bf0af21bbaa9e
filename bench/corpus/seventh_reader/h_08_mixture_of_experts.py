"""Sparse mixture of experts (top-1 routing) on a regression problem with regimes."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import DataLoader, TensorDataset


def regimes(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (n, 4))
    k = (x[:, 0] > 0).astype(int) * 2 + (x[:, 1] > 0)
    y = np.choose(k, [
        np.sin(3 * x[:, 2]) + x[:, 3],
        x[:, 2] * x[:, 3],
        np.abs(x[:, 2]) * 2 - 2,
        np.cos(4 * x[:, 3]) - x[:, 2],
    ]) + rng.normal(0, 0.05, n)
    return TensorDataset(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32))


class MoE(nn.Module):
    def __init__(self, n_experts=8, hidden=32):
        super().__init__()
        self.router = nn.Sequential(nn.Linear(4, 32), nn.ReLU(), nn.Linear(32, n_experts))
        nn.init.zeros_(self.router[-1].weight)
        nn.init.zeros_(self.router[-1].bias)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(4, hidden), nn.SiLU(), nn.Linear(hidden, hidden), nn.SiLU(), nn.Linear(hidden, 1))
            for _ in range(n_experts)
        )
        self.noise = 1.0

    def forward(self, x):
        logits = self.router(x)
        if self.training and self.noise > 0:
            logits = logits + self.noise * torch.randn_like(logits)
        gate = F.softmax(logits, dim=-1)
        weight, choice = gate.max(-1)
        out = x.new_zeros(len(x))
        for e, expert in enumerate(self.experts):
            rows = (choice == e).nonzero(as_tuple=True)[0]
            if len(rows) == 0:
                continue
            out = out.index_add(0, rows, expert(x[rows]).squeeze(-1))
        # straight-through scale: value one, gradient through the gate
        scale = weight / weight.detach()
        load = F.one_hot(choice, len(self.experts)).float().mean(0)
        balance = len(self.experts) * (load * gate.mean(0)).sum()
        return out * scale, balance, load


def main():
    torch.manual_seed(0)
    train_dl = DataLoader(regimes(3000, 0), batch_size=100, shuffle=True, drop_last=True)
    test = regimes(1000, 1)
    model = MoE()
    groups = [
        {"params": model.experts.parameters(), "lr": 6e-3},
        {"params": model.router.parameters(), "lr": 4e-3},
    ]
    opt = torch.optim.Adam(groups)
    epochs = 22
    for epoch in range(1, epochs + 1):
        model.train()
        model.noise = max(0.0, 1.0 - epoch / 8)
        tot, bal = 0.0, 0.0
        for x, y in train_dl:
            pred, balance, _ = model(x)
            mse = F.mse_loss(pred, y)
            loss = mse + 0.02 * balance
            opt.zero_grad(set_to_none=True)
            loss.backward()
            opt.step()
            tot += mse.item()
            bal += balance.item()
        model.eval()
        with torch.no_grad():
            pred, _, load = model(test.tensors[0])
            val = F.mse_loss(pred, test.tensors[1]).item()
        if epoch % 2 == 0:
            print(f"epoch {epoch:2d}  mse {tot / len(train_dl):.4f}  balance {bal / len(train_dl):.3f}  "
                  f"test mse {val:.4f}  experts in use {(load > 0.01).sum().item()}/8")
    print(f"variance of the target: {test.tensors[1].var():.3f}")


if __name__ == "__main__":
    main()
