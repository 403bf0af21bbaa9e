"""Word level LSTM language model on generated instructions."""
import argparse
import math
import random

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--emsize", type=int, default=48)
parser.add_argument("--nhid", type=int, default=96)
parser.add_argument("--nlayers", type=int, default=1)
parser.add_argument("--lr", type=float, default=1e-2)
parser.add_argument("--clip", type=float, default=0.5)
parser.add_argument("--epochs", type=int, default=12)
parser.add_argument("--batch_size", type=int, default=32)
parser.add_argument("--dropout", type=float, default=0.1)
parser.add_argument("--seed", type=int, default=1111)
args = parser.parse_args()

random.seed(args.seed)
torch.manual_seed(args.seed)

SUBJ = {"the cook": ["stirs", "tastes", "salts"], "the pilot": ["lands", "checks", "flies"],
        "the nurse": ["bandages", "weighs", "calms"], "the clerk": ["stamps", "files", "copies"]}
OBJ = {"the cook": ["soup", "sauce", "stew"], "the pilot": ["plane", "glider", "jet"],
       "the nurse": ["patient", "baby", "soldier"], "the clerk": ["letter", "form", "report"]}
ADV = ["slowly", "quickly", "carefully", "again"]
PLACE = ["at noon", "at night", "on monday", "on friday"]


def sentence():
    s = random.choice(list(SUBJ))
    v = random.choice(SUBJ[s])
    o = OBJ[s][SUBJ[s].index(v)]
    return f"{s} {random.choice(ADV)} and {random.choice(ADV)} {v} a {random.choice(['big', 'small'])} {o} {random.choice(PLACE)} ."


def corpus(n):
    return " ".join(sentence() for _ in range(n)).split()


class Dictionary:
    def __init__(self, words):
        self.idx2word = sorted(set(words))
        self.word2idx = {w: i for i, w in enumerate(self.idx2word)}

    def encode(self, words):
        return torch.tensor([self.word2idx[w] for w in words])

    def __len__(self):
        return len(self.idx2word)


class RNNModel(nn.Module):
    def __init__(self, ntoken, ninp, nhid, nlayers, dropout):
        super().__init__()
        self.drop = nn.Dropout(dropout)
        self.encoder = nn.Embedding(ntoken, ninp)
        self.rnn = nn.LSTM(ninp, nhid, nlayers, dropout=dropout if nlayers > 1 else 0.0)
        self.decoder = nn.Linear(nhid, ntoken)
        nn.init.uniform_(self.encoder.weight, -0.1, 0.1)
        nn.init.uniform_(self.decoder.weight, -0.1, 0.1)
        nn.init.zeros_(self.decoder.bias)

    def forward(self, x):
        emb = self.drop(self.encoder(x))            # batch, time, feature
        output, _ = self.rnn(emb)
        return self.decoder(self.drop(output))      # batch, time, vocab


def to_blocks(ids, bptt):
    n = (len(ids) - 1) // bptt
    x = ids[: n * bptt].view(n, bptt)
    y = ids[1: n * bptt + 1].view(n, bptt)
    return x, y


train_words, valid_words = corpus(1800), corpus(200)
dic = Dictionary(train_words)
xtr, ytr = to_blocks(dic.encode(train_words), 35)
xva, yva = to_blocks(dic.encode(valid_words), 35)
print(f"vocab {len(dic)}, train {tuple(xtr.shape)}, valid {tuple(xva.shape)}")

model = RNNModel(len(dic), args.emsize, args.nhid, args.nlayers, args.dropout)
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.Adam(model.parameters(), lr=args.lr)


@torch.no_grad()
def evaluate(x, y):
    model.eval()
    total, count = 0.0, 0
    for i in range(0, len(x), args.batch_size):
        out = model(x[i:i + args.batch_size])
        t = y[i:i + args.batch_size]
        total += criterion(out.flatten(0, 1), t.flatten()).item() * t.numel()
        count += t.numel()
    return total / count


for epoch in range(1, args.epochs + 1):
    model.train()
    perm = torch.randperm(len(xtr))
    total, batches = 0.0, 0
    for i in range(0, len(perm) - args.batch_size + 1, args.batch_size):
        idx = perm[i:i + args.batch_size]
        optimizer.zero_grad()
        out = model(xtr[idx])
        loss = criterion(out.flatten(0, 1), ytr[idx].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), args.clip)
        optimizer.step()
        total += loss.item()
        batches += 1
    val = evaluate(xva, yva)
    print(f"| end of epoch {epoch:2d} | train loss {total / batches:5.3f} | valid loss {val:5.3f} | valid ppl {math.exp(val):6.2f}")
