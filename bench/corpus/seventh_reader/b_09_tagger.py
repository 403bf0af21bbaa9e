"""Sequence tagger (Transformer encoder) for the fields of log lines.

The first token names the service that wrote the line; the same word can be a
user in one service and a host or a status code in another.
"""
import random

import torch
import torch.nn as nn
from torch.utils.data import DataLoader

PAD = 0
SERVICES = [1, 2, 3, 4]
VOCAB = 40
TAGS = ["O", "USER", "HOST", "CODE"]
MAX_LEN = 28
IGNORE = -100

_rng = random.Random(42)
FIELD = {s: [_rng.choice([0, 0, 1, 2, 3]) for _ in range(VOCAB)] for s in SERVICES}


def make_line(rng):
    service = rng.choice(SERVICES)
    words = [rng.randint(5, VOCAB - 1) for _ in range(rng.randint(6, 20))]
    return [service] + words, [0] + [FIELD[service][w] for w in words]


def collate(batch):
    ids = torch.full((len(batch), MAX_LEN), PAD)
    labels = torch.full((len(batch), MAX_LEN), IGNORE)
    attention_mask = torch.zeros(len(batch), MAX_LEN, dtype=torch.bool)
    for k, (tok, tag) in enumerate(batch):
        ids[k, :len(tok)] = torch.tensor(tok)
        labels[k, :len(tag)] = torch.tensor(tag)
        attention_mask[k, :len(tok)] = True
    return ids, attention_mask, labels


class Tagger(nn.Module):
    def __init__(self, dim=32, heads=4, layers=2):
        super().__init__()
        self.tok = nn.Embedding(VOCAB, dim, padding_idx=PAD)
        self.pos = nn.Parameter(torch.randn(MAX_LEN, dim) * 0.1)
        layer = nn.TransformerEncoderLayer(dim, heads, 2 * dim, dropout=0.05, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.out = nn.Linear(dim, len(TAGS))

    def forward(self, ids, attention_mask):
        h = self.tok(ids) + self.pos
        h = self.encoder(h, src_key_padding_mask=attention_mask)
        return self.out(h)


@torch.no_grad()
def evaluate(model, loader):
    model.eval()
    hit = torch.zeros(len(TAGS))
    count = torch.zeros(len(TAGS))
    for ids, am, labels in loader:
        pred = model(ids, am).argmax(-1)
        keep = labels != IGNORE
        for t in range(len(TAGS)):
            sel = keep & (labels == t)
            hit[t] += (pred[sel] == t).sum()
            count[t] += sel.sum()
    return (hit.sum() / count.sum()).item(), (hit / count).tolist()


def main():
    torch.manual_seed(0)
    rng = random.Random(0)
    train = [make_line(rng) for _ in range(1200)]
    dev = [make_line(rng) for _ in range(300)]
    train_dl = DataLoader(train, batch_size=32, shuffle=True, collate_fn=collate)
    dev_dl = DataLoader(dev, batch_size=100, collate_fn=collate)
    model = Tagger()
    loss_fn = nn.CrossEntropyLoss(ignore_index=IGNORE)
    opt = torch.optim.AdamW(model.parameters(), lr=2e-3)
    epochs = 8
    total = epochs * len(train_dl)
    sched = torch.optim.lr_scheduler.LambdaLR(opt, lambda s: min(1.0, (s + 1) / 40) * max(0.02, 1 - s / total))
    for epoch in range(epochs):
        model.train()
        run = 0.0
        for ids, am, labels in train_dl:
            logits = model(ids, am)
            loss = loss_fn(logits.flatten(0, 1), labels.flatten())
            opt.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            opt.step()
            sched.step()
            run += loss.item()
        acc, per_tag = evaluate(model, dev_dl)
        detail = " ".join(f"{n}={v:.2f}" for n, v in zip(TAGS, per_tag))
        print(f"epoch {epoch + 1} loss {run / len(train_dl):.4f} dev acc {acc:.4f} ({detail})")


if __name__ == "__main__":
    main()
