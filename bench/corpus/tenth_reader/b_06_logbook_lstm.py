"""LSTM language model over a ship's logbook (synthetic), with early stopping on validation loss."""
import copy
import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, random_split

CTX = 24


def write_logbook(n, rng):
    names = ["".join(rng.choice("bcdfglmnprst") + rng.choice("aeiou") for _ in range(rng.randint(2, 4))) for _ in range(400)]
    winds = ["calm", "fresh", "strong", "gale"]
    lines = []
    for day in range(n):
        lines.append(f"day {day}: {rng.choice(winds)} wind, {rng.choice(names)} took the watch from {rng.choice(names)}.")
    return " ".join(lines)


class Windows(Dataset):
    def __init__(self, ids, ctx, stride=4):
        self.ids, self.ctx, self.starts = ids, ctx, range(0, len(ids) - ctx - 1, stride)

    def __len__(self):
        return len(self.starts)

    def __getitem__(self, i):
        s = self.starts[i]
        return self.ids[s:s + self.ctx], self.ids[s + 1:s + self.ctx + 1]


class LSTMLM(nn.Module):
    def __init__(self, vocab, d=48, h=128):
        super().__init__()
        self.emb = nn.Embedding(vocab, d)
        self.lstm = nn.LSTM(d, h, batch_first=True)
        self.fc = nn.Linear(h, vocab)

    def forward(self, x):
        return self.fc(self.lstm(self.emb(x))[0])


@torch.no_grad()
def loss_on(model, loader):
    model.eval()
    tot = n = 0
    for x, y in loader:
        tot += nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="sum").item()
        n += y.numel()
    return tot / n


def main():
    torch.manual_seed(5)
    rng = random.Random(5)
    text = write_logbook(110, rng)
    itos = sorted(set(text) | set("abcdefghijklmnopqrstuvwxyz0123456789"))
    stoi = {c: i for i, c in enumerate(itos)}
    ids = torch.tensor([stoi[c] for c in text])
    windows = Windows(ids, CTX)
    n_train = int(0.85 * len(windows))
    train_set, val_set = random_split(windows, [n_train, len(windows) - n_train],
                                      generator=torch.Generator().manual_seed(0))
    train_loader = DataLoader(train_set, batch_size=32, shuffle=True)
    val_loader = DataLoader(val_set, batch_size=128)

    model = LSTMLM(len(itos))
    opt = torch.optim.AdamW(model.parameters(), lr=4e-3)
    best, best_state, bad = float("inf"), None, 0
    for epoch in range(12):
        model.train()
        for x, y in train_loader:
            loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
            opt.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
        v = loss_on(model, val_loader)
        print(f"epoch {epoch}: train {loss.item():.3f} val {v:.3f}")
        if v < best - 1e-3:
            best, best_state, bad = v, copy.deepcopy(model.state_dict()), 0
        else:
            bad += 1
            if bad == 2:
                break
    model.load_state_dict(best_state)
    new = torch.tensor([stoi[c] for c in write_logbook(60, random.Random(99))])
    live = loss_on(model, DataLoader(Windows(new, CTX, CTX), batch_size=128))
    print(f"best val loss {best:.3f}, next voyage loss {live:.3f}")


if __name__ == "__main__":
    main()
