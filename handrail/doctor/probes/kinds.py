"""Do rows of one kind of text come first, and those of another kind last?"""

import math

import torch

from ..findings import finding

BLOCKS = 12  # sums of tokens that are kept; the updates in each grow with the run
FIRST = 5  # updates in a block at first
WIDEST = 300_000  # classes of which each is counted
APART = 0.1  # of the tokens of one third that never come in the other


class Kinds:
    """Counts the tokens that are learned, block by block. They stay where they are: on a GPU."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.start()

    def start(self):
        self.blocks, self.size, self.filled = [], FIRST, FIRST  # filled: updates in the last block
        self.updates, self.classes = 0, 0

    def after_step(self, optimizer):
        now = self.doctor.now
        if self.doctor.steppers[id(optimizer)] == now.number > 1:  # another training
            yield from self.judge()
            self.start()
        heard = [loss for seen in now.passes for loss in seen.losses if of_text(seen, loss)]
        self.classes = self.classes or (heard[0].classes if heard else 0)
        heard = [loss for loss in heard if loss.classes == self.classes]
        if not heard:
            return
        self.updates += 1
        if self.filled == self.size:
            self.open(heard[0].targets.device)
        self.filled += 1
        for loss in heard:  # what does not count goes into a place of its own, at the end
            targets = loss.targets.where(loss.targets != loss.ignore, self.classes).flatten()
            targets = targets.clamp(0, self.classes).long()
            self.blocks[-1].index_add_(0, targets, torch.ones_like(targets))

    def open(self, device):
        """Begin a block; when there are many, two become one."""
        if len(self.blocks) == BLOCKS:
            self.blocks = [a + b for a, b in zip(self.blocks[::2], self.blocks[1::2], strict=True)]
            self.size *= 2
        self.blocks.append(torch.zeros(self.classes + 1, dtype=torch.long, device=device))
        self.filled = 0

    def ended(self):
        yield from self.judge()

    def judge(self):
        if self.updates < 60:
            return
        blocks = torch.stack(self.blocks)[:, :-1].cpu()
        third = math.ceil(len(blocks) / 3)
        first, last = blocks[:third].sum(0), blocks[-third:].sum(0)
        even, odd = blocks[::2].sum(0), blocks[1::2].sum(0)
        missing = [share(first, last), share(last, first)]
        rare = max(share(even, odd), share(odd, even))  # by chance: some tokens come seldom
        if min(missing) >= APART and min(missing) > 3 * rare:
            words = [
                self.doctor.decode(int(i) for i in (one * (other == 0)).topk(3).indices)
                for one, other in ((first, last), (last, first))
            ]
            evidence = (
                f"{missing[0]:.0%} of what is learned in the first third of {self.updates:,} "
                f"updates never comes in the last (such as {words[0]}), and {missing[1]:.0%} of "
                f"that in the last never in the first (such as {words[1]})"
            )
            yield finding("sorted-by-class/kind", evidence, self.doctor.updates)


def of_text(seen, loss):
    """Return True for a Loss over the tokens of what a Pass reads."""
    if seen.ids is None or loss.targets.is_floating_point() or not 8 <= loss.classes < WIDEST:
        return False
    return loss.targets.numel() in (seen.ids.numel(), seen.ids.numel() - len(seen.ids))


def share(counts, others):
    """Return which part of some tokens never comes among the others."""
    return float(counts[others == 0].sum() / counts.sum().clamp(min=1))
