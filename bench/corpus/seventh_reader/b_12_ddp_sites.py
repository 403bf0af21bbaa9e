"""Data-parallel training over two recording sites (one process per site, gloo)."""
import os
import socket

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import torch.nn as nn
import torch.nn.functional as F
from torch.nn.parallel import DistributedDataParallel as DDP

WORLD = 2
N_FEATURES, N_CLASSES = 20, 6


def load_site(site, n=1500):
    """Each site mostly sees its own mix of patients."""
    rng = np.random.default_rng(100 + site)
    mix = np.array([0.32, 0.32, 0.32, 0.02, 0.01, 0.01])
    if site == 1:
        mix = mix[::-1]
    return sample(rng, rng.choice(N_CLASSES, n, p=mix))


def sample(rng, y):
    centers = np.random.default_rng(5).normal(0, 1.0, (N_CLASSES, 2, N_FEATURES))
    which = rng.integers(0, 2, len(y))
    x = centers[y, which] + rng.normal(0, 0.9, (len(y), N_FEATURES))
    return torch.tensor(x, dtype=torch.float32), torch.tensor(y)


class DiagnosisNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(N_FEATURES, 64), nn.LayerNorm(64), nn.GELU(),
            nn.Linear(64, 64), nn.GELU(), nn.Dropout(0.1),
        )
        self.head = nn.Linear(64, N_CLASSES)

    def forward(self, x):
        return self.head(self.body(x))

    def compute_loss(self, x, y):
        logits = self(x)
        loss = F.cross_entropy(logits, y, label_smoothing=0.05)
        acc = (logits.argmax(1) == y).float().mean()
        return loss, acc


def evaluate(net):
    rng = np.random.default_rng(999)
    x, y = sample(rng, rng.integers(0, N_CLASSES, 1200))
    net.eval()
    with torch.no_grad():
        logits = net(x)
    recall = [(logits.argmax(1)[y == c] == c).float().mean().item() for c in range(N_CLASSES)]
    return F.cross_entropy(logits, y).item(), float(np.mean(recall)), recall


def worker(rank, port):
    os.environ["MASTER_ADDR"] = "127.0.0.1"
    os.environ["MASTER_PORT"] = str(port)
    dist.init_process_group("gloo", rank=rank, world_size=WORLD)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = load_site(rank)
    model = DDP(DiagnosisNet())
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    gen = torch.Generator().manual_seed(rank)
    for epoch in range(1, 9):
        model.train()
        losses, accs = [], []
        for idx in torch.randperm(len(x), generator=gen).split(50):
            loss, acc = model.module.compute_loss(x[idx], y[idx])
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
            accs.append(acc.item())
        stats = torch.tensor([np.mean(losses), np.mean(accs)], dtype=torch.float64)
        dist.all_reduce(stats)
        stats /= WORLD
        if rank == 0:
            print(f"epoch {epoch}  train loss {stats[0]:.4f}  train acc {stats[1]:.3f}", flush=True)
    if rank == 0:
        loss, balanced, recall = evaluate(model.module)
        print(f"test loss {loss:.4f}  balanced accuracy {balanced:.3f}")
        print("recall per class: " + " ".join(f"{r:.2f}" for r in recall))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        free_port = s.getsockname()[1]
    mp.spawn(worker, args=(free_port,), nprocs=WORLD)
