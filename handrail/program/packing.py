"""From examples to batches: laid end to end, so that nothing is padded.

Examples have all lengths. One under another in a batch, the short ones would be
filled up with padding, and most of the work would be done on nothing. So they
are laid end to end in one long row. The positions start again at 0 with each
example, and the attention, which sees that, keeps them apart.

The trap: it keeps them apart only if nothing else tells it otherwise. With a
mask, or with the cache that generating text uses, each example reads the ones
before it, and no error says so.
"""

import torch

from batches import IGNORE, order, share


def pack(rows):
    """Return rows (ids, loss_mask) laid end to end as one row (1, T) without padding.

    A row may have a third part, a number about it: `values` (R,) holds these numbers, else 0.
    """
    inputs, targets, positions, owner = [], [], [], []
    for number, (ids, loss_mask, *_) in enumerate(rows):
        inputs += ids[:-1]
        learned = zip(ids[1:], loss_mask[1:], strict=True)
        targets += [token if counts else IGNORE for token, counts in learned]
        positions += range(len(ids) - 1)
        owner += [number] * (len(ids) - 1)  # the row that each token belongs to
    targets = torch.tensor(targets)
    keep = (targets != IGNORE).nonzero()[:, 0]  # (K,): where the loss counts
    batch = {"inputs": torch.tensor([inputs]), "targets": targets[None], "keep": keep}
    batch |= {"positions": torch.tensor([positions]), "owner": torch.tensor(owner)[keep]}
    values = [row[2] if len(row) > 2 else 0.0 for row in rows]
    return batch | {"values": torch.tensor(values), "count": len(keep)}


def bins(rows, most):
    """Return the rows in lists of at most `most` tokens each; a longer row is alone in its list."""
    lists, size = [[]], 0
    for row in rows:
        if size + len(row[0]) > most and lists[-1]:
            lists.append([])
            size = 0
        lists[-1].append(row)
        size += len(row[0])
    return lists


def turns(step, rows, settings, rank=0, processes=1):
    """Return the rows of an update that process `rank` takes; each epoch has its own order."""
    places = [divmod(number, len(rows)) for number in share(step, settings, rank, processes)]
    return [rows[order(settings.seed, epoch, len(rows))[place]] for epoch, place in places]


def packed(rows, settings):
    """Return rows as batches of about `context` tokens.

    Some models read across rows, whatever their positions: there each row is alone.
    """
    most = settings.context if getattr(settings, "packed", True) else 1
    return [pack(part) for part in bins(rows, most)]


def message_batches(rows, settings, rank=0, processes=1):
    """Return batches(step): the rows of that update, packed."""

    def batches(step):
        return packed(turns(step, rows, settings, rank, processes), settings)

    return batches
