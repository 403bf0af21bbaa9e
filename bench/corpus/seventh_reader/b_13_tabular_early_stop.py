"""Churn model on a table with few rows; early stopping keeps the best epoch."""
import numpy as np
import torch
from torch import nn

torch.manual_seed(11)


def churn_table(n, seed):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 30)).astype(np.float32)
    score = 1.2 * x[:, 0] - 0.9 * x[:, 1] + x[:, 2] * x[:, 3] + 0.6 * np.abs(x[:, 4])
    prob = 1 / (1 + np.exp(-1.2 * (score - 0.3)))
    y = (rng.random(n) < prob).astype(np.float32)
    return torch.from_numpy(x), torch.from_numpy(y)


class EarlyStopping:
    def __init__(self, patience):
        self.patience = patience
        self.best = float("inf")
        self.best_epoch = -1
        self.best_state = None
        self.wait = 0

    def update(self, epoch, value, model):
        """Returns True when training should stop."""
        if value < self.best - 1e-4:
            self.best, self.best_epoch, self.wait = value, epoch, 0
            self.best_state = model.state_dict()
        else:
            self.wait += 1
        return self.wait >= self.patience


class Trainer:
    def __init__(self, model, lr, batch_size=32, max_epochs=120, patience=25):
        self.model = model
        self.opt = torch.optim.Adam(model.parameters(), lr=lr)
        self.loss_fn = nn.BCEWithLogitsLoss()
        self.batch_size, self.max_epochs = batch_size, max_epochs
        self.stopper = EarlyStopping(patience)

    def train_epoch(self, x, y):
        self.model.train()
        total = 0.0
        for idx in torch.randperm(len(x)).split(self.batch_size):
            loss = self.loss_fn(self.model(x[idx]).squeeze(1), y[idx])
            self.opt.zero_grad()
            loss.backward()
            self.opt.step()
            total += loss.item() * len(idx)
        return total / len(x)

    @torch.no_grad()
    def evaluate(self, x, y):
        self.model.eval()
        logits = self.model(x).squeeze(1)
        acc = ((logits > 0).float() == y).float().mean().item()
        return self.loss_fn(logits, y).item(), acc

    def fit(self, train, val):
        for epoch in range(1, self.max_epochs + 1):
            tr = self.train_epoch(*train)
            va, acc = self.evaluate(*val)
            stop = self.stopper.update(epoch, va, self.model)
            if epoch % 5 == 0 or stop:
                print(f"epoch {epoch:3d}  train {tr:.4f}  val {va:.4f}  val acc {acc:.3f}")
            if stop:
                print(f"early stop at epoch {epoch}")
                break
        self.model.load_state_dict(self.stopper.best_state)
        print(f"restored epoch {self.stopper.best_epoch} (val loss {self.stopper.best:.4f})")


def main():
    train, val, test = churn_table(600, 0), churn_table(300, 1), churn_table(2000, 2)
    model = nn.Sequential(
        nn.Linear(30, 128), nn.ReLU(), nn.Dropout(0.1),
        nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, 1),
    )
    trainer = Trainer(model, lr=2e-3)
    trainer.fit(train, val)
    loss, acc = trainer.evaluate(*test)
    print(f"test loss {loss:.4f}  test acc {acc:.3f}")


if __name__ == "__main__":
    main()
