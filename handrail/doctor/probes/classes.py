"""Do the classes come one after the other; is there more than one?"""

import torch

from ..findings import finding
from ..token_rows import rows_of

BLOCK = 6  # updates of one class in a row
LOOKED_AT = 20  # updates of which the tokens to be predicted are counted
READ = 10  # updates whose classes are read back at once: it makes a GPU wait


class Classes:
    """Notes which class an update saw alone, if it did."""

    def __init__(self, doctor):
        self.doctor, self.ends = doctor, []  # lowest and highest class of each update
        self.blocks = []  # [class that came alone, or None; updates in a row]
        self.halves = 0  # losses over two classes that ignore one of them
        self.asked, self.tokens = 0, set()  # tokens to be predicted: how many, and which

    def lost(self, seen):
        """Where one of two classes is ignored, only the other one is left to be learned."""
        loss = seen.losses[-1]
        whole = not loss.targets.is_floating_point() and not loss.weighed and seen.grad
        if not whole or loss.classes != 2 or loss.ignore not in (0, 1) or self.halves > 2:
            return
        self.halves += bool((loss.targets == loss.ignore).any())
        if self.halves == 3:
            evidence = f"3 losses over 2 classes had targets of class {loss.ignore}: ignore_index"
            yield finding("one-target-only/ignored-class", evidence, self.doctor.now.number)

    def after_step(self, optimizer):
        if self.doctor.now.age <= LOOKED_AT:
            yield from self.one_token()
        heard = [
            loss.targets
            for seen in self.doctor.now.passes
            for loss in seen.losses
            if not loss.targets.is_floating_point() and loss.value.ndim == 0
        ]
        if not heard:
            return
        targets = heard[0]
        if len(heard) == 1 and targets.ndim == 1 and len(targets) >= 8:
            self.ends.append(torch.stack(targets.aminmax()))
        else:
            self.ends.append(torch.tensor([0, 1], device=targets.device))
        if len(self.ends) == READ:
            for low, high in torch.stack(self.ends).tolist():
                self.add(low if low == high else None)
            self.ends = []
            yield from self.sorted()

    def one_token(self):
        for rows in map(rows_of, self.doctor.now.passes):
            if rows is not None and rows.targets is not None:
                targets = rows.targets[rows.targets >= 0].tolist()
                self.asked += len(targets)
                self.tokens |= set(targets)
        if self.doctor.updates == LOOKED_AT and len(self.tokens) == 1 and self.asked >= 100:
            word = self.doctor.decode(self.tokens)
            evidence = f"all {self.asked:,} targets of {LOOKED_AT} updates are {word}"
            yield finding("one-target-only", evidence, LOOKED_AT)

    def add(self, one):
        if self.blocks and self.blocks[-1][0] == one:
            self.blocks[-1][1] += 1
        else:
            self.blocks = [*self.blocks[-999:], [one, 1]]

    def sorted(self):
        alone = [(one, length) for one, length in self.blocks if one is not None]
        long = [one for one, length in alone if length >= BLOCK]
        total = sum(length for _, length in self.blocks)
        if len(set(long)) >= 2 and sum(length for _, length in alone) > 0.6 * total:
            evidence = (
                f"batches of class {long[0]} alone, then of class {long[-1]} alone, at least "
                f"{BLOCK} updates in a row each"
            )
            yield finding("sorted-by-class", evidence, self.doctor.updates)
