"""Five-fold cross-validation of a small classifier on 200 rows with 12 % positives."""
import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


def patients(n, seed=0):
    rng = np.random.default_rng(seed)
    y = np.zeros(n, np.float32)
    y[: int(0.12 * n)] = 1
    x = rng.normal(size=(n, 12))
    x[:, 0] += 1.6 * y
    x[:, 3] -= 1.2 * y
    x[:, 5] = x[:, 5] * np.where(y > 0, 2.0, 1.0)
    units = np.random.default_rng(77)
    x = x * units.uniform(0.5, 40, 12) + units.uniform(-50, 50, 12)
    return x.astype(np.float32), y


def stratified_folds(y, k, rng):
    fold = np.empty(len(y), int)
    for c in np.unique(y):
        idx = rng.permutation(np.where(y == c)[0])
        fold[idx] = np.arange(len(idx)) % k
    return fold


def roc_auc(score, y):
    order = score.argsort()
    rank = np.empty(len(score))
    rank[order] = np.arange(1, len(score) + 1)
    n1 = y.sum()
    n0 = len(y) - n1
    return (rank[y == 1].sum() - n1 * (n1 + 1) / 2) / (n0 * n1)


def fit_fold(x, y, seed, epochs=100):
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Linear(x.shape[1], 16), nn.Tanh(), nn.Dropout(0.3), nn.Linear(16, 1))
    with torch.no_grad():
        # start at the base rate of the weighted problem
        net[-1].bias.zero_()
        net[-1].weight.mul_(0.1)
    pos_weight = (y == 0).sum() / (y == 1).sum()
    opt = torch.optim.AdamW(net.parameters(), lr=5e-3, weight_decay=0.3)
    net.train()
    first = last = None
    for _ in range(epochs):
        loss = F.binary_cross_entropy_with_logits(net(x).squeeze(1), y, pos_weight=pos_weight)
        opt.zero_grad()
        loss.backward()
        opt.step()
        first = loss.item() if first is None else first
        last = loss.item()
    net.eval()
    return net, first, last


def main():
    rng = np.random.default_rng(0)
    x, y = patients(200)
    fold = stratified_folds(y, 5, rng)
    oof = np.zeros(len(y), np.float32)
    for k in range(5):
        tr, te = fold != k, fold == k
        mean, std = x[tr].mean(0), x[tr].std(0)
        xt = torch.from_numpy((x[tr] - mean) / std)
        xv = torch.from_numpy((x[te] - mean) / std)
        net, first, last = fit_fold(xt, torch.from_numpy(y[tr]), seed=k)
        with torch.no_grad():
            s_tr = net(xt).squeeze(1).numpy()
            s_te = net(xv).squeeze(1).numpy()
        oof[te] = s_te
        print(f"fold {k + 1}: weighted loss {first:.3f} -> {last:.3f}  "
              f"train auc {roc_auc(s_tr, y[tr]):.3f}  valid auc {roc_auc(s_te, y[te]):.3f}")
    pred = oof > 0
    recall = (pred & (y == 1)).sum() / (y == 1).sum()
    precision = (pred & (y == 1)).sum() / max(pred.sum(), 1)
    print(f"out of fold: auc {roc_auc(oof, y):.3f}  recall {recall:.3f}  precision {precision:.3f}")

    mean, std = x.mean(0), x.std(0)
    final, first, last = fit_fold(torch.from_numpy((x - mean) / std), torch.from_numpy(y), seed=99)
    x_new, y_new = patients(3000, seed=1)
    with torch.no_grad():
        s = final(torch.from_numpy((x_new - mean) / std)).squeeze(1).numpy()
    print(f"final model on all rows: loss {first:.3f} -> {last:.3f}, auc on later patients {roc_auc(s, y_new):.3f}")


if __name__ == "__main__":
    main()
