"""Are gradients cleared after each update, and only then?"""

from collections import Counter
from weakref import ref

import torch

from ..findings import finding
from ..record import alive, parameters, sample

EARLY = 24  # updates in which this is looked at


class ZeroGrad:
    """Looks at a few gradients at the first backward of each update, and after each."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.held = {}  # id(optimizer): some of its tensors, with their gradients at its last step
        self.looked, self.kept = set(), set()  # since its step: looked at; old gradients found
        self.old = Counter()  # id(optimizer): updates in a row with old gradients
        self.marked, self.cuts, self.cleared = [], 0, 0  # of the last backward; times gone; updates
        # since the first backward after a step: who had gradients of another loss; who stepped
        self.foreign, self.stepped = set(), set()
        self.cut = False  # were old gradients clipped, with no backward before it?
        self.mixed = Counter()  # id(optimizer): its steps with gradients of another loss

    def backward(self, loss, fresh):
        if fresh:
            self.marked, self.cuts = [], 0
        self.cuts += bool(self.marked) and not any(alive(p) for p, _ in self.marked)
        if fresh and self.doctor.updates <= EARLY:
            # of every optimizer seen: which of them steps next is not known yet
            there = {number for number, some in self.held.items() if any_left(some, self.cut)}
            self.cut = False
            yield from self.others()
            self.foreign = there & self.looked - self.kept
            new = there - self.looked
            self.kept = (self.kept & self.looked | new) & there
            self.looked |= set(self.held)

    def others(self):
        """Gradients of a backward after which only another optimizer stepped, left for this one.

        One that steps with every second batch, say, has the other at its side when it does.
        """
        alone = len(self.stepped) == 1 and self.stepped <= self.foreign
        self.mixed.update(self.stepped if alone else ())
        if 3 in self.mixed.values():
            evidence = (
                "in 3 of its steps, gradients that came before another optimizer's step were still "
                "there at the first backward after that"
            )
            yield finding("gradients-of-another-loss", evidence, self.doctor.updates)
        self.stepped = set()

    def clipped(self, norm, most):
        self.cut = bool(self.held) and self.held.keys() == self.stepped

    def gradients_came(self):
        model = self.doctor.trained
        if self.doctor.updates < EARLY and model is not None:
            some = [p for p in model.parameters() if p.grad is not None and not p.grad.is_sparse]
            self.marked = [(p, sample(p.grad)) for p in some[-4:]]

    def before_step(self, optimizer):
        if self.doctor.updates <= EARLY:
            yield from self.never_cleared(optimizer)
            yield from self.cleared_between()

    def never_cleared(self, optimizer):
        number = id(optimizer)
        self.stepped.add(number)
        self.old[number] = self.old[number] + 1 if number in self.kept else 0
        self.looked.discard(number)
        some = [p for p in parameters(optimizer)[:4] if p.grad is not None]
        self.held[number] = [(ref(p), sample(p.grad)) for p in some if not p.grad.is_sparse]
        if self.old[number] >= 3:
            evidence = (
                f"in {self.old[number]} updates in a row, the old gradients were still there at "
                "the first backward"
            )
            yield finding("gradients-not-zeroed", evidence, self.doctor.updates)

    def cleared_between(self):
        """Of several batches, only the gradients of the last one are left.

        Not so where each is kept elsewhere, or one looks for the worst change of the same rows.
        """
        cuts, self.cuts = self.cuts, 0
        answers = [seen.losses[0].targets for seen in self.doctor.now.passes if seen.losses]
        if cuts < 2 or len(answers) < 2:
            return
        same = answers[0].shape == answers[1].shape and torch.equal(answers[0], answers[1])
        kept = all(unchanged(p, was) for p, was in self.marked)
        self.cleared = self.cleared + 1 if kept and not same else 0
        if self.cleared == 3:
            evidence = f"{cuts} times within one update, in each of the last 3 updates"
            yield finding("accumulation-cleared", evidence, self.doctor.now.number)


def any_left(held, cut):
    """Return True if old gradients are there; if not cut, smaller ones are a momentum."""
    there = [(kept(), was) for kept, was in held if kept() is not None]
    return any(alive(p) and (cut or not is_part(sample(p.grad), was)) for p, was in there)


def is_part(now, was):
    """Return True if a gradient is a part of what it was at the last step."""
    part = float((now * was).sum() / (was * was).sum().clamp(min=1e-30))
    return 0 < part < 0.999 and bool((now - part * was).norm() < 1e-3 * now.norm())


def unchanged(p, was):
    """Return True if a tensor has the gradient of the last backward alone."""
    if p.grad is None:
        return False
    return bool(torch.cosine_similarity(sample(p.grad).float(), was.float(), 0) > 0.999)
