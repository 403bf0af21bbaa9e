"""Local SGD: two processes train on their own shard and average their weights every few steps."""
import os
import socket

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F

WORLD = 2
SYNC_EVERY = 8
EPOCHS = 8


def make_data(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-2, 2, (n, 6))
    y = np.sin(2 * x[:, 0]) * x[:, 1] + np.exp(-x[:, 2] ** 2) * 2 - 0.5 * x[:, 3] * np.abs(x[:, 4])
    y = y + rng.normal(0, 0.1, n)
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)[:, None]


def build(seed):
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 1))


@torch.no_grad()
def average_weights(model):
    flat = nn.utils.parameters_to_vector(model.parameters())
    before = flat.clone()
    dist.all_reduce(flat)
    flat /= WORLD
    nn.utils.vector_to_parameters(flat, model.parameters())
    return (flat - before).norm().item() / before.norm().item()


def worker(rank, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    torch.set_num_threads(1)
    model = build(seed=rank)
    for p in model.parameters():
        dist.broadcast(p.data, src=0)

    x, y = make_data(4000, 0)
    x, y = x[rank::WORLD], y[rank::WORLD]
    x_test, y_test = make_data(1000, 1)
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    sched = torch.optim.lr_scheduler.StepLR(opt, 6, 0.3)
    step = 0
    for epoch in range(1, EPOCHS + 1):
        torch.manual_seed(1000 * epoch + rank)
        total, drift = 0.0, []
        for idx in torch.randperm(len(x)).split(20):
            loss = F.mse_loss(model(x[idx]), y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            step += 1
            total += loss.item() * len(idx)
            if step % SYNC_EVERY == 0:
                drift.append(average_weights(model))
        drift.append(average_weights(model))
        sched.step()
        mean = torch.tensor(total / len(x))
        dist.all_reduce(mean)
        if rank == 0:
            with torch.no_grad():
                test = F.mse_loss(model(x_test), y_test).item()
            print(f"epoch {epoch:2d}  train mse {mean.item() / WORLD:.4f}  test mse {test:.4f}  "
                  f"drift before averaging {np.mean(drift):.4f}", flush=True)
    dist.barrier()
    dist.destroy_process_group()


def main():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(worker, args=(port,), nprocs=WORLD)
    print(f"noise floor 0.0100, target variance {make_data(1000, 1)[1].var():.3f}")


if __name__ == "__main__":
    main()
