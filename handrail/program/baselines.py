"""The numbers to beat: how well can one guess without any model?

Three guessers, made by counting alone. *Uniform* knows nothing: every token is
as likely as any other, loss ln V. *Unigram* knows how frequent each token is.
*Bigram* also sees the one token before. A model that is worth its training
beats all three on val; one that does not has learned less than a table.

The trap: comparing with nothing. A loss of 1.8 may be excellent or poor; it
depends on the text and the tokenizer. The guessers tell which.
"""

import math

import numpy as np

MOST = 20_000_000  # tokens of train that are counted


def baselines(train, val, vocabulary):
    """Return the losses on val, in nats per token, of the three guessers; train and val are arrays (N,) of tokens."""
    train, val = train[:MOST].astype(np.int64), val.astype(np.int64)
    counts = np.bincount(train, minlength=vocabulary) + 1
    unigram = counts / counts.sum()
    pairs, times = np.unique(train[:-1] * vocabulary + train[1:], return_counts=True)
    asked = val[:-1] * vocabulary + val[1:]
    place = np.searchsorted(pairs, asked).clip(max=len(pairs) - 1)
    seen = np.where(pairs[place] == asked, times[place], 0)
    bigram = (seen + 5 * unigram[val[1:]]) / (counts[val[:-1]] + 5)  # rare pairs lean on the unigram
    return {
        "uniform": math.log(vocabulary),
        "unigram": float(-np.log(unigram[val[1:]]).mean()),
        "bigram": float(-np.log(bigram).mean()),
    }
