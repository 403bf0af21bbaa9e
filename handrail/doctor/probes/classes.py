"""Do the classes come one after the other?"""

import torch

from ..findings import finding

BLOCK = 6  # updates of one class in a row
READ = 10  # updates whose classes are read back at once: it makes a GPU wait


class Classes:
    """Notes which class an update saw alone, if it did."""

    def __init__(self, doctor):
        self.doctor, self.ends = doctor, []  # lowest and highest class of each update
        self.blocks = []  # [class that came alone, or None; updates in a row]

    def after_step(self, optimizer):
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
