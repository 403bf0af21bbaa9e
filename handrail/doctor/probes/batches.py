"""Are the batches different ones, and the rows in them?"""

from contextlib import suppress

import torch
from torch.nn.modules.dropout import _DropoutNd
from torch.utils.data import SequentialSampler

from ..findings import finding
from ..token_rows import rows_of

EARLY, LONG = 2, 20  # updates, whose batches are compared


class Batches:
    """Counts what data loaders give, and looks for batches of one and the same row."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.firsts = {}  # id(sampler of batches): first batches that were taken from it
        self.further = False  # was there a second batch of an iterator, or another loader?
        self.size = 0  # batches in the loader
        self.early = None  # some of what an early update read
        self.alike = self.looks = 0  # updates whose rows were all the same; that were looked at
        self.twins = 0  # updates in which two views were one

    def batch_taken(self, iterator):
        """A data loader gave a batch."""
        sampler, number = getattr(iterator, "_index_sampler", None), iterator._num_yielded
        if number > 1 or not isinstance(getattr(sampler, "sampler", None), SequentialSampler):
            self.further = True
        self.firsts[id(sampler)] = self.firsts.get(id(sampler), 0) + 1
        self.size = 0
        with suppress(TypeError):  # it has no end
            self.size = len(sampler)

    def after_step(self, optimizer):
        number, passes = self.doctor.updates, self.doctor.now.passes
        if number > LONG or not passes:
            return
        if number == EARLY:
            self.early = some_of(passes[0])
        if number == LONG and len(self.firsts) == 1 and not self.further and self.size > 1:
            again = some_of(passes[0])
            same = again is not None and self.early is not None and torch.equal(self.early, again)
            if same and min(self.firsts.values()) >= number:
                evidence = (
                    f"a data loader of {self.size:,} batches, without shuffling, was started anew "
                    f"for each of {number} updates, and its first batch taken; updates {EARLY} and "
                    f"{LONG} read the same numbers"
                )
                yield finding("first-batch-only", evidence, number)
        yield from self.views(number)
        rows = rows_of(passes[0])
        if rows is None or len(rows.ids) < 4:
            return
        self.looks += 1
        self.alike += bool((rows.ids == rows.ids[0]).all())
        if number == LONG and self.alike == self.looks >= 5:
            evidence = f"in {self.looks} of {self.looks} batches all {len(rows.ids)} rows are equal"
            yield finding("one-row-per-batch", evidence, number)

    def views(self, number):
        """Two views of each picture that are the same numbers teach nothing."""
        now = self.doctor.now
        if number not in (EARLY, LONG) or len(now.losses) != 1 or not asks_for_partners(now.passes):
            return
        self.twins += any(map(twins, pairs_of(now.passes[:2])))
        if self.twins == 2:
            evidence = f"in updates {EARLY} and {LONG} both views of every row were equal"
            yield finding("views-are-equal", evidence, number)


def pairs_of(passes):
    """Return pairs (one, other): the halves of each batch, and what two passes read."""
    read = []
    for seen in passes:
        values = [v for v in seen.inputs.values() if isinstance(v, torch.Tensor)]
        values = [v for v in values if v.layout is torch.strided]
        read += [v for v in values if v.is_floating_point() and v.ndim > 1]
    return [*(value.chunk(2) for value in read), *zip(read, read[1:], strict=False)]


def asks_for_partners(passes):
    """Return True if a loss asks each row which other one is its partner, and dropout is off."""
    parts = [part for seen in passes for part in seen.module.modules()]
    if any(isinstance(part, _DropoutNd) and part.training and part.p for part in parts):
        return False  # it makes the difference between the views
    targets = [loss.targets for seen in passes for loss in seen.losses if loss.classes > 3]
    return any(len(t.unique()) == t.numel() > 3 for t in targets)


def twins(pair):
    """Return True if two tensors of several rows are equal, and their rows are not."""
    if len(pair) != 2 or pair[0].shape != pair[1].shape or len(pair[0]) < 4:
        return False
    return torch.equal(*pair) and not torch.equal(pair[0][0], pair[0][1])


def some_of(seen):
    """Return a copy of some of what a Pass read, None if it is not kept."""
    values = [value for value in seen.inputs.values() if isinstance(value, torch.Tensor)]
    values = [value for value in values if value.layout is torch.strided]
    return values[0].detach().flatten()[:1000].clone() if values else None
