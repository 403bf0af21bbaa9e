"""One-step forecast of a machine's vibration with an LSTM."""
import logging

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset

logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
log = logging.getLogger("forecast")

WINDOW = 40


def simulate(n_series, length, seed):
    rng = np.random.default_rng(seed)
    t = np.arange(length)
    out = []
    for _ in range(n_series):
        period = rng.uniform(8, 24)
        phase = rng.uniform(0, 2 * np.pi)
        amp = rng.uniform(0.6, 1.6)
        load = np.sin(2 * np.pi * t / rng.uniform(100, 200))
        signal = amp * np.sin(2 * np.pi * t / period + phase)
        signal += 0.4 * amp * np.sin(4 * np.pi * t / period + 2 * phase) + 0.3 * load
        signal += rng.normal(0, 0.08, length)
        out.append(np.stack([signal, load], 1))
    return np.stack(out).astype(np.float32)


class Windows(Dataset):
    def __init__(self, data, mean, std, stride):
        self.data = (data - mean) / std
        self.index = [(i, s) for i in range(len(data)) for s in range(0, data.shape[1] - WINDOW - 1, stride)]

    def __len__(self):
        return len(self.index)

    def __getitem__(self, k):
        i, s = self.index[k]
        return self.data[i, s:s + WINDOW], self.data[i, s + WINDOW, 0]


class Forecaster(nn.Module):
    def __init__(self, n_features=2, hidden=48):
        super().__init__()
        self.lstm = nn.LSTM(n_features, hidden, num_layers=1)
        self.head = nn.Sequential(nn.Linear(hidden, 32), nn.ReLU(), nn.Linear(32, 1))

    def forward(self, x):
        out, _ = self.lstm(x)
        return self.head(out[:, -1]).squeeze(-1)


def run_epoch(model, loader, loss_fn, opt=None):
    model.train(opt is not None)
    total, n = 0.0, 0
    with torch.set_grad_enabled(opt is not None):
        for x, y in loader:
            loss = loss_fn(model(x), y)
            if opt is not None:
                opt.zero_grad(set_to_none=True)
                loss.backward()
                nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                opt.step()
            total += loss.item() * len(y)
            n += len(y)
    return total / n


def main():
    torch.manual_seed(0)
    train_raw, val_raw = simulate(60, 300, 0), simulate(15, 300, 1)
    mean, std = train_raw.mean((0, 1)), train_raw.std((0, 1))
    train_dl = DataLoader(Windows(train_raw, mean, std, 6), batch_size=64, shuffle=True)
    val_dl = DataLoader(Windows(val_raw, mean, std, 6), batch_size=64)

    naive = np.mean([(x[-1, 0] - y) ** 2 for x, y in val_dl.dataset])
    log.info("windows: train %d, val %d; persistence mse %.4f", len(train_dl.dataset), len(val_dl.dataset), naive)

    model = Forecaster()
    opt = torch.optim.Adam(model.parameters(), lr=4e-3)
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(opt, factor=0.5, patience=2)
    loss_fn = nn.MSELoss()
    for epoch in range(1, 13):
        tr = run_epoch(model, train_dl, loss_fn, opt)
        va = run_epoch(model, val_dl, loss_fn)
        plateau.step(va)
        log.info("epoch %2d train mse %.4f val mse %.4f lr %.1e", epoch, tr, va, opt.param_groups[0]["lr"])
    log.info("done, skill over persistence %.3f", 1 - va / naive)


if __name__ == "__main__":
    main()
