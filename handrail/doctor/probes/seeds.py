"""Do all updates draw the same random numbers?"""

from weakref import ref

import torch

from ..findings import finding
from ..record import sample

IN_A_ROW = 5  # updates
EARLY, LATE = 2, 20  # updates whose inputs are compared


class Seeds:
    """Notes the generator's state after the first pass of each update that seeds it."""

    def __init__(self, doctor):
        self.doctor, self.alike = doctor, 0
        self.seed = self.state = self.last = None  # of this update; both of the last one
        self.early = {}  # name: (a reference to an input of an early update, some of its numbers)

    def seeded(self, seed):
        self.seed, self.state = int(seed), None

    def passed(self, seen):
        if not seen.grad:
            self.seed = None  # an evaluation seeds for itself, and may put the state back
        elif self.seed is not None and self.state is None:
            new, state = torch.Generator().manual_seed(self.seed).get_state(), torch.get_rng_state()
            self.state = None if torch.equal(state, new) else bytes(state)  # None: nothing drawn

    def after_step(self, optimizer):
        now, self.seed, self.state = (self.seed, self.state), None, None
        self.alike = self.alike + 1 if now == self.last and None not in now else 0
        self.last, update = now, self.doctor.updates
        if self.alike == IN_A_ROW:
            evidence = (
                f"torch.manual_seed({now[0]}) in each of {IN_A_ROW + 1} updates in a row; numbers "
                "were drawn after it, and the generator was left in the same state each time"
            )
            yield finding("same-random-numbers", evidence, update)
        if update in (EARLY, LATE) and self.doctor.now.passes:
            yield from self.compare(self.doctor.now.passes[0].inputs, update)

    def compare(self, inputs, update):
        """Look for an input of one number a row that is made anew, and is the same."""
        given = {name: v for name, v in inputs.items() if isinstance(v, torch.Tensor)}
        given = {name: v for name, v in given.items() if v.layout is torch.strided and v.ndim}
        if update == EARLY:
            owners = {name: v if v._base is None else v._base for name, v in given.items()}
            self.early = {name: (ref(owners[name]), sample(v)) for name, v in given.items()}
            return
        given = {name: v for name, v in given.items() if name in self.early}
        same = [name for name, v in given.items() if torch.equal(sample(v), self.early[name][1])]
        for name in same:
            anew = self.early[name][0]() is None and unordered(given[name])
            if anew and len(same) < len(given):
                evidence = (
                    f"{name} was made anew, and holds the same {len(given[name])} numbers, in no "
                    f"order, in updates {EARLY} and {LATE}; what else is read differs"
                )
                yield finding("same-random-numbers/inputs", evidence, update)


def unordered(numbers):
    """Return True for one number a row, going up and down by ever other steps."""
    if not 16 <= len(numbers) == numbers.numel():
        return False
    steps = numbers.reshape(-1).diff()
    return bool(steps.min() < 0 < steps.max()) and len(steps.unique()) >= 8
