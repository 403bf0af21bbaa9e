"""Is anything learned at all? Looks at the loss at the end, and at one that never changes."""

import math

import torch

from ..findings import finding

LAST = 20  # losses


class NothingLearned:
    """Keeps the last losses over classes or tokens."""

    def __init__(self, doctor):
        self.doctor, self.values = doctor, []  # (loss, classes)

    def after_step(self, optimizer):
        for seen in self.doctor.now.passes:
            for loss in seen.losses:
                if not loss.targets.is_floating_point() and loss.value.ndim == 0:
                    self.values.append((loss.value, loss.classes))
        del self.values[:-LAST]
        yield from self.constant()

    def constant(self):
        update, last = self.doctor.updates, self.doctor.history.losses[-LAST:]
        if update % LAST or len(last) < LAST or abs(last[0]) <= 1e-6:
            return
        if max(last) - min(last) < 1e-6 * abs(last[0]):
            evidence = f"{last[0]:.6g} in each of the last {LAST} updates that were looked at"
            yield finding("loss-never-changes", evidence, update)

    def ended(self):
        """The loss is still that of guessing; of two models that play against each other it may."""
        doctor, history = self.doctor, self.doctor.history
        if doctor.updates < 60 or len(doctor.steppers) > 1:
            return
        yield from self.coin(history.losses)
        if len(self.values) < LAST:
            return
        kinds = {classes for _, classes in self.values}
        classes = kinds.pop()
        if kinds or classes < 2:
            return
        guess = math.log(classes)
        last = float(torch.stack([value for value, _ in self.values]).mean())
        lowest = min(history.losses, default=guess)  # below it something was learned, for a while
        if 0.995 * guess < last < 1.05 * guess and lowest > 0.8 * guess:
            evidence = (
                f"the loss is {last:.3f} after {doctor.updates:,} updates; that of a guess is "
                f"ln {classes:,} = {guess:.3f}"
            )
            name = "nothing-learned/clipped" if history.tight > 30 else "nothing-learned"
            yield finding(name, evidence, doctor.updates, tight=history.tight)

    def coin(self, losses):
        """One of two answers is right: the loss of a guess is ln 2, as in DPO and for yes or no."""
        last = losses[-LAST:]
        starts = losses[:1] and abs(losses[0] - math.log(2)) < 0.1
        if len(last) < LAST or not starts or min(losses) < 0.95 * math.log(2):
            return
        mean = sum(last) / LAST
        if abs(mean - math.log(2)) < 0.02:
            evidence = f"the loss is {mean:.3f} at the end; that of a guess of two is ln 2 = 0.693"
            yield finding("nothing-learned", evidence, self.doctor.updates)
