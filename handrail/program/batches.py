"""From tokens to batches: what the model is shown, and what it should answer.

The training text is one long row of tokens, cut into rows of `context`. The
answer to every token is simply the next one, so one row is as many exercises
as it has tokens. A batch is some rows side by side.

Every batch follows from (seed, step) alone. A run that was stopped need not
remember where it was, and two processes can share a batch without talking.

The trap: inputs and targets are shifted against each other *once*. Shifted
twice, in the data and again in the model, the loss still looks fine.
"""

import json
from functools import lru_cache

import numpy as np
import torch

IGNORE = -100  # a target that does not count: cross_entropy passes over it


def load_tokens(folder, side):
    """Return folder/train.bin or folder/val.bin as an array (N,) that stays on disk."""
    about = json.loads((folder / "about.json").read_text())
    return np.memmap(folder / f"{side}.bin", about["dtype"], mode="r")


@lru_cache(2)
def order(seed, epoch, rows):
    """Return the order in which an epoch, one pass over all rows, takes them."""
    return np.random.default_rng((seed, epoch)).permutation(rows)


def row(tokens, context, seed, number):
    """Return row `number` (T + 1,) of an endless series of epochs: T inputs and, shifted by one, T targets."""
    rows = (len(tokens) - 1) // context
    epoch, place = divmod(number, rows)
    start = context * order(seed, epoch, rows)[place]
    return torch.from_numpy(tokens[start : start + context + 1].astype(np.int64))


def to_batch(rows):
    """Return what the model sees and should answer, from rows of equal length (B, T + 1), or padded with IGNORE."""
    rows = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORE)
    inputs, targets = rows[:, :-1].clamp(min=0), rows[:, 1:].contiguous()  # (B, T) each
    return {"inputs": inputs, "targets": targets, "count": int((targets != IGNORE).sum())}


def train_batches(tokens, settings, rank=0, processes=1):
    """Return batches(step): this process's share of the update's rows, as a list of batches small enough for memory."""

    def batches(step):
        numbers = range(step * settings.batch + rank, (step + 1) * settings.batch, processes)
        mine = [row(tokens, settings.context, settings.seed, number) for number in numbers]
        size = settings.rows_at_once or len(mine)
        return [to_batch(mine[i : i + size]) for i in range(0, len(mine), size)]

    return batches


def val_batches(tokens, end, context, documents=None, size=32):
    """Yield batches of the first `documents` documents of val (all by default), one document a row.

    Each row starts from END, as every document does, so that its loss is the document's own. Longer documents
    are cut into rows of `context`.
    """
    ends = np.flatnonzero(tokens == end)
    spans = [tokens[a : b + 1] for a, b in zip(ends, ends[1:][:documents])]
    rows = [span[i : i + context + 1] for span in spans for i in range(0, len(span) - 1, context)]
    for i in range(0, len(rows), size):
        yield to_batch([torch.from_numpy(row.astype(np.int64)) for row in rows[i : i + size]])
