"""Semi-supervised node classification with a GCN (whole graph in every step)."""
import argparse

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def make_graph(n_nodes, n_classes, n_features, rng):
    y = rng.integers(0, n_classes, n_nodes)
    same = y[:, None] == y[None, :]
    p = np.where(same, 0.026, 0.0025)
    upper = np.triu(rng.random((n_nodes, n_nodes)) < p, 1)
    adj = (upper | upper.T).astype(np.float32)
    words = rng.random((n_classes, n_features)) * 0.10 + 0.01
    x = (rng.random((n_nodes, n_features)) < words[y]).astype(np.float32)
    return adj, x, y


def normalise(adj):
    a = adj + np.eye(len(adj), dtype=np.float32)
    d = 1 / np.sqrt(a.sum(1))
    return torch.from_numpy(a * d[:, None] * d[None, :]).to_sparse()


class GCN(nn.Module):
    def __init__(self, n_in, hidden, n_out, dropout):
        super().__init__()
        self.w1 = nn.Linear(n_in, hidden, bias=False)
        self.w2 = nn.Linear(hidden, n_out, bias=False)
        self.b1 = nn.Parameter(torch.zeros(hidden))
        self.b2 = nn.Parameter(torch.zeros(n_out))
        self.dropout = dropout

    def forward(self, x, a):
        h = F.dropout(x, self.dropout, self.training)
        h = F.relu(torch.sparse.mm(a, self.w1(h)) + self.b1)
        h = F.dropout(h, self.dropout, self.training)
        return torch.sparse.mm(a, self.w2(h)) + self.b2


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--hidden", type=int, default=32)
    ap.add_argument("--dropout", type=float, default=0.5)
    ap.add_argument("--epochs", type=int, default=200)
    ap.add_argument("--labels-per-class", type=int, default=10)
    args = ap.parse_args()

    rng = np.random.default_rng(0)
    torch.manual_seed(0)
    adj, x, y = make_graph(900, 5, 200, rng)
    a_hat = normalise(adj)
    x = torch.from_numpy(x / np.maximum(x.sum(1, keepdims=True), 1))
    y = torch.from_numpy(y)

    order = rng.permutation(len(y))
    train = np.concatenate([[i for i in order if y[i] == c][: args.labels_per_class] for c in range(5)])
    rest = np.setdiff1d(order, train)
    rng.shuffle(rest)
    val, test = rest[:200], rest[200:]
    train, val, test = (torch.from_numpy(np.asarray(v)) for v in (train, val, test))
    print(f"{len(y)} nodes, {int(adj.sum() / 2)} edges, {len(train)} labelled")

    model = GCN(x.shape[1], args.hidden, 5, args.dropout)
    opt = torch.optim.Adam([
        {"params": [model.w1.weight, model.b1], "weight_decay": 5e-4},
        {"params": [model.w2.weight, model.b2], "weight_decay": 0.0},
    ], lr=0.01)

    best_val, best_test, best_epoch = 0.0, 0.0, 0
    for epoch in range(1, args.epochs + 1):
        model.train()
        out = model(x, a_hat)
        loss = F.cross_entropy(out[train], y[train])
        opt.zero_grad()
        loss.backward()
        opt.step()

        model.eval()
        with torch.no_grad():
            pred = model(x, a_hat).argmax(1)
        acc = {name: (pred[m] == y[m]).float().mean().item() for name, m in
               (("train", train), ("val", val), ("test", test))}
        if acc["val"] > best_val:
            best_val, best_test, best_epoch = acc["val"], acc["test"], epoch
        if epoch % 25 == 0:
            print(f"epoch {epoch:3d}  loss {loss.item():.4f}  train {acc['train']:.3f}  val {acc['val']:.3f}  test {acc['test']:.3f}")
    print(f"test accuracy at the best validation epoch ({best_epoch}): {best_test:.3f}")


if __name__ == "__main__":
    main()
