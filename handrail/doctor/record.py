"""What was seen of a training: one Update at a time, and what later ones need of earlier ones."""

import math
from collections import Counter
from dataclasses import dataclass, field

import torch

SAMPLE = 2048  # values of a tensor that are compared
READ = 10  # updates in which each loss is read; then every fifth: a GPU has to wait for it


@dataclass
class Update:
    """What was seen between two steps of the optimizer."""

    number: int
    passes: list = field(default_factory=list)  # forward passes that were trained on
    evals: list = field(default_factory=list)  # forward passes without a gradient
    losses: list = field(default_factory=list)  # what backward was called on, detached
    rates: list = field(default_factory=list)  # the learning rate of each parameter group
    scheduled: Counter = field(default_factory=Counter)  # id(scheduler): calls of its step
    age: int = 1  # its number, counted from the first step of this optimizer
    before: dict = field(default_factory=dict)  # id(tensor): some values before the step
    moving: bool = False  # did a tensor of the optimizer have a gradient that is not 0?
    moved: int = 0  # tensors of `before` that the step changed

    @property
    def rate(self):
        return max(self.rates, default=0.0)


class History:
    """What later updates need of earlier ones. Losses and rates start again with a new training."""

    def __init__(self):
        self.losses, self.rates, self.unread = [], [], []
        self.fresh = False  # were losses read in this update?
        self.first = None  # the first cross-entropy: what backward gets may be more than it
        self.classes, self.smoothing = 0, 0.0  # of the widest head; of the last loss
        self.mean_like = True  # see compare
        self.generated = 0  # texts that the model wrote
        self.clipped = []  # norm of the gradients / clipping limit
        self.steps = []  # (age of the update, rate, median size of a step relative to its matrix)
        self.owned = set()  # ids of the tensors of all optimizers seen
        self.from_zero = set()  # ids of tensors that were 0 at first: any step is large for them

    @property
    def tight(self):
        """How many times longer than the clipping limit a gradient usually is."""
        return sorted(self.clipped)[len(self.clipped) // 2] if self.clipped else 0

    def heard(self, seen):
        """Note a loss of a training pass."""
        loss = seen.losses[-1]
        self.classes, self.smoothing = max(self.classes, loss.classes), loss.smoothing
        if self.first is None and loss.value.ndim == 0 and loss.reduction == "mean":
            self.first = float(loss.value)

    def add(self, update, new):
        """Note an update's loss and rate; `new`: another training starts with it."""
        if new or self.searching():  # what rose or fell before is not its doing
            self.losses, self.unread, self.rates = [], [], [] if new else self.rates
        parts = [loss.reshape(-1)[0].float() for loss in update.losses]
        self.unread += [torch.stack(parts).sum()] if parts else []
        self.rates.append(update.rate)
        self.fresh = update.number <= READ or update.number % 5 == 0
        if self.fresh:
            self.losses += map(float, self.unread)
            self.unread = []
            self.compare(update)

    def searching(self):
        """Return True while the rate grows by one factor in each update: a search for the rate."""
        growth = [b / a for a, b in zip(self.rates[-12:], self.rates[-11:], strict=False) if a > 0]
        return len(growth) == 11 and min(growth) > 1.02 and max(growth) < 1.05 * min(growth)

    def compare(self, update):
        """Note whether the loss of an update is a mean over targets: only then ln V compares."""
        heard = [
            loss
            for seen in update.passes
            for loss in seen.losses
            if not loss.targets.is_floating_point()
        ]
        if heard and self.losses:
            mean = sum(map(mean_of, heard)) / len(heard)
            self.mean_like = 0.4 * mean <= self.losses[-1] <= 2.5 * mean

    def recent(self, number=10):
        """Return the mean of the last losses, 0 if there are none."""
        last = self.losses[-number:]
        return sum(last) / max(1, len(last))

    def knew(self):
        """Return True if the first loss was far below that of chance."""
        known = self.losses and self.classes > 1
        return bool(known) and self.losses[0] < 0.85 * math.log(self.classes)

    def measure(self, optimizer, update, names):
        """Note how many tensors a step changed, and by how much of their size the matrices."""
        sizes = []
        for p in parameters(optimizer):
            old, now = update.before.get(id(p)), sample(p)
            if old is None or old.shape != now.shape:
                continue
            update.moved += not torch.equal(now, old)
            if update.number <= 4 and not old.any():
                self.from_zero.add(id(p))
            matrix = p.ndim == 2 and "embed" not in names.get(id(p), "embed")
            if matrix and p.grad is not None and id(p) not in self.from_zero:
                sizes.append(((now - old).norm() / (old.norm() + 1e-12)).item())
        if sizes and update.rate > 0:
            self.steps.append((update.age, update.rate, sorted(sizes)[len(sizes) // 2]))


def close(number):
    """Return True for the updates whose weights are looked at closely."""
    return number <= 4 or number <= 60 and number % 10 == 0 or number % 100 == 0


def mean_of(loss):
    """Return the mean of a Loss over its targets."""
    if loss.reduction == "mean":
        return float(loss.value)
    return float(loss.value.sum()) / max(1, int((loss.targets != loss.ignore).sum()))


def parameters(optimizer):
    """Return all tensors of an optimizer."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def sample(p):
    """Return a few of a tensor's values, spread over it, as a copy."""
    p = p.detach()
    flat = (torch.view_as_real(p) if p.is_complex() else p).reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLE)][:SAMPLE].clone()


def alive(p):
    """Return True if a tensor has a gradient that is not 0 everywhere."""
    if p.grad is None:
        return False
    return bool((p.grad._values() if p.grad.is_sparse else p.grad).count_nonzero())


def some(names):
    """Return the first of many names, as a text."""
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
