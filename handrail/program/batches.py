"""From tokens to batches: what the model is shown, and what it should answer.

The training text is one long row of tokens, cut into rows of `context` tokens.
The right answer to each token is simply the next one, so a row of T tokens
gives T predictions to learn from. A batch is several rows together.

    inputs    One  day  Tom  went
    targets   day  Tom  went to

The number of an update alone decides which rows it gets. So a stopped run does
not have to remember where it was, and several GPUs share a batch without talking.

The trap: the targets are the inputs moved along by one token. Do this only
once: if the data does it and the model does it again, the loss still looks fine.
"""

import json
from functools import lru_cache

import numpy as np
import torch

from settings import require

IGNORE = -100  # a target that does not count: cross_entropy skips it


def load_tokens(folder, side):
    """Return folder/train.bin or folder/val.bin as an array (N,) that stays on the disk."""
    about = json.loads(require(folder / "about.json", "python tokenizer.py").read_text())
    return np.memmap(folder / f"{side}.bin", about["dtype"], mode="r")


@lru_cache(2)
def order(seed, epoch, rows):
    """Return the random order in which an epoch (one pass over all rows) takes them."""
    return np.random.default_rng((seed, epoch)).permutation(rows)


def row(tokens, context, seed, number):
    """Return row `number` (T + 1,) of an endless series of epochs: T inputs and one more token."""
    rows = (len(tokens) - 1) // context
    epoch, place = divmod(number, rows)
    start = context * order(seed, epoch, rows)[place]
    return torch.from_numpy(tokens[start : start + context + 1].astype(np.int64))


def to_batch(rows):
    """Return inputs and targets (B, T) of rows (T + 1,); shorter rows are filled up with IGNORE."""
    rows = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=IGNORE)
    inputs = rows[:, :-1].clamp(min=0)  # any token will do where the target is IGNORE
    targets = rows[:, 1:].contiguous()
    return {"inputs": inputs, "targets": targets, "count": int((targets != IGNORE).sum())}


def share(step, settings, rank, processes):
    """Return the numbers of the rows of an update that process `rank` (one GPU) takes."""
    return range(step * settings.batch + rank, (step + 1) * settings.batch, processes)


def train_batches(tokens, settings, rank=0, processes=1):
    """Return batches(step): the rows of that update, in parts that fit into memory."""

    def batches(step):
        numbers = share(step, settings, rank, processes)
        rows = [row(tokens, settings.context, settings.seed, number) for number in numbers]
        size = settings.rows_at_once or len(rows)
        return [to_batch(rows[i : i + size]) for i in range(0, len(rows), size)]

    return batches


def val_batches(tokens, end, settings, documents=None):
    """Yield batches of the first `documents` val documents (default: all), one document per row.

    Each row begins with END (the token `end`), as each document does, so its loss is the
    document's own. A longer document is cut into rows of `context`.
    """
    context, size = settings.context, settings.rows_at_once or 32
    ends = np.flatnonzero(tokens == end)
    rows = []
    for first, last in zip(ends[:documents], ends[1:], strict=False):
        rows += [tokens[i : min(i + context, last) + 1] for i in range(first, last, context)]
    for i in range(0, len(rows), size):
        part = [torch.from_numpy(row.astype(np.int64)) for row in rows[i : i + size]]
        yield to_batch(part)
