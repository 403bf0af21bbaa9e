"""Pretrain a word-level GRU LM on a general corpus, then adapt it to a small set of product reviews."""
import random
from collections import Counter

import torch
from torch import nn

torch.manual_seed(0)
rnd = random.Random(0)
VOCAB = 150

words = [f"{a}{b}" for a in ("ka", "lo", "mi", "nu", "pe", "ra", "si", "to", "vu", "ze", "be", "do", "fa", "gi", "hu")
         for b in ("n", "r", "st", "l", "mo", "ti", "sha", "qe", "lu", "pa")]
follows = {w: rnd.sample(words, 4) for w in words}


def write(n, length, topic):
    out = []
    for _ in range(n):
        w = rnd.choice(topic)
        s = [w]
        for _ in range(length - 1):
            w = rnd.choices(follows[w], weights=[6, 2, 1, 1])[0]
            s.append(w)
        out.append(s)
    return out


def build_vocab(texts, size):
    counts = Counter(w for t in texts for w in t)
    kept = [w for w, _ in counts.most_common(size - 1)]
    return {"<unk>": 0, **{w: i + 1 for i, w in enumerate(kept)}}


def encode(texts, vocab):
    return torch.tensor([[vocab.get(w, 0) for w in t] for t in texts])


class WordLM(nn.Module):
    def __init__(self, n, d=64, h=128):
        super().__init__()
        self.emb = nn.Embedding(n, d)
        self.rnn = nn.GRU(d, h, batch_first=True)
        self.drop = nn.Dropout(0.1)
        self.out = nn.Linear(h, n)

    def forward(self, x):
        return self.out(self.drop(self.rnn(self.emb(x))[0]))


def fit(model, ids, epochs, lr, bs=32):
    opt = torch.optim.Adam(model.parameters(), lr=lr)
    ce = nn.CrossEntropyLoss()
    for ep in range(epochs):
        model.train()
        tot = 0
        for idx in torch.randperm(len(ids)).split(bs):
            x = ids[idx]
            loss = ce(model(x[:, :-1]).transpose(1, 2), x[:, 1:])
            opt.zero_grad()
            loss.backward()
            opt.step()
            tot += loss.item() * len(idx)
        print(f"  epoch {ep} loss {tot / len(ids):.3f}")


@torch.no_grad()
def perplexity(model, ids):
    model.eval()
    return nn.functional.cross_entropy(model(ids[:, :-1]).transpose(1, 2), ids[:, 1:]).exp().item()


print("pretraining")
general = write(1800, 16, words)
general_test = write(200, 20, words)
vocab = build_vocab(general, VOCAB)
lm = WordLM(VOCAB)
fit(lm, encode(general, vocab), 5, 3e-3)
print("general ppl", round(perplexity(lm, encode(general_test, vocab)), 2))
torch.save({"model": lm.state_dict(), "vocab": vocab}, "pre.pt")

print("adapting to reviews")
topic = rnd.sample(words, 12)
reviews_train, reviews_test = write(120, 14, topic), write(150, 14, topic)
vocab = build_vocab(reviews_train, VOCAB)
lm = WordLM(VOCAB)
lm.load_state_dict(torch.load("pre.pt")["model"])
fit(lm, encode(reviews_train, vocab), 4, 5e-4, bs=16)
print(f"held-out review perplexity {perplexity(lm, encode(reviews_test, vocab)):.2f}")
