"""From examples to batches: laid end to end, so that nothing is padded.

Examples are of all lengths. Side by side in a batch, the short ones would be
filled up with padding, and most of the work would be done on nothing. So they
are laid behind one another in one long row. The position numbers begin anew
with each, and the attention, which sees that, keeps them apart.

The trap: it keeps them apart only if nothing else tells it not to. With a
mask, or with the cache that writing uses, each example reads those before it,
and no error says so.
"""

import torch

from batches import IGNORE, order


def pack(rows):
    """Return rows laid end to end in one (1, T), so that none is padded; positions that begin anew keep them apart."""
    inputs = [token for ids, _ in rows for token in ids[:-1]]
    targets = [token if said else IGNORE for ids, trained in rows for token, said in zip(ids[1:], trained[1:])]
    positions = [position for ids, _ in rows for position in range(len(ids) - 1)]
    owner = [number for number, (ids, _) in enumerate(rows) for _ in ids[:-1]]  # the row that a token belongs to
    batch = {"inputs": torch.tensor([inputs]), "targets": torch.tensor([targets]), "positions": torch.tensor([positions])}
    keep = (batch["targets"][0] != IGNORE).nonzero()[:, 0]  # (K,): where the loss counts
    return batch | {"keep": keep, "owner": torch.tensor(owner)[keep], "rows": len(rows), "count": len(keep)}


def bins(rows, most):
    """Return the rows in lists of at most `most` tokens each."""
    lists, size = [[]], 0
    for row in rows:
        if size + len(row[0]) > most and lists[-1]:
            lists, size = lists + [[]], 0
        lists[-1].append(row)
        size += len(row[0])
    return lists


def turn(number, rows, seed):
    """Return row `number` of an endless series of epochs, each in an order of its own."""
    epoch, place = divmod(number, len(rows))
    return rows[order(seed, epoch, len(rows))[place]]


def message_batches(rows, settings, rank=0, processes=1):
    """Return batches(step): this process's share of `settings.batch` rows, packed into parts of about `context` tokens."""

    def batches(step):
        numbers = range(step * settings.batch + rank, (step + 1) * settings.batch, processes)
        return [pack(part) for part in bins([turn(n, rows, settings.seed) for n in numbers], settings.context)]

    return batches
