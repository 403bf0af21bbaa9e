"""The numbers to beat: how well can you guess without any model?

Three guessers, made by counting alone. *Uniform* knows nothing: every token is
as likely as any other, so its loss is ln V. *Unigram* knows how common each
token is. *Bigram* also sees the one token before. A model that was worth
training beats all three on val; otherwise it has learned less than a table.

The trap: comparing with nothing. A loss of 1.8 may be excellent or poor; that
depends on the text and the tokenizer. These guessers tell you which.
"""

import math

import numpy as np

MOST = 20_000_000  # tokens of train that are counted


def baselines(train, val, vocabulary):
    """Return the losses of the three guessers on val, in nats per token; tokens come as (N,)."""
    train, val = train[:MOST].astype(np.int64), val.astype(np.int64)
    counts = np.bincount(train, minlength=vocabulary) + 1
    unigram = counts / counts.sum()

    # a pair of tokens (a, b) as one number: a · V + b; how often was each pair of val in train?
    pairs, times = np.unique(train[:-1] * vocabulary + train[1:], return_counts=True)
    wanted = val[:-1] * vocabulary + val[1:]
    place = np.searchsorted(pairs, wanted).clip(max=len(pairs) - 1)
    seen = np.where(pairs[place] == wanted, times[place], 0)

    # P(b after a); for rare pairs, it falls back on how common b is
    bigram = (seen + 5 * unigram[val[1:]]) / (counts[val[:-1]] + 5)
    return {
        "uniform": math.log(vocabulary),
        "unigram": float(-np.log(unigram[val[1:]]).mean()),
        "bigram": float(-np.log(bigram).mean()),
    }
