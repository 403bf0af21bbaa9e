"""Is a loss or a weight NaN or infinite?"""

import math

from ..findings import finding


class NonFinite:
    """Looks at each loss (on a GPU, after the first ten, at every tenth), then for where it is."""

    def __init__(self, doctor):
        self.doctor, self.waiting = doctor, 0  # passes since the last step

    def passed(self, seen):
        """A program may skip a loss that is NaN, and then all that follow."""
        self.waiting += seen.grad and seen.training
        model = self.doctor.trained
        if not self.waiting or self.waiting % 20 or model is None:
            return
        if not all(p.isfinite().all() for p in model.parameters()):
            evidence = f"{self.waiting} batches since the last update, {self.doctor.updates:,}"
            yield finding("non-finite/skipped", evidence, self.doctor.updates)

    def after_step(self, optimizer):
        self.waiting = 0

    def before_step(self, optimizer):
        doctor, losses = self.doctor, self.doctor.now.losses
        if not losses or doctor.trained is None:
            return
        if doctor.updates > 10 and doctor.updates % 10 and losses[-1].device.type != "cpu":
            return
        if all(math.isfinite(loss.item()) for loss in losses if loss.numel() == 1):
            return
        named = list(doctor.trained.named_parameters())
        weights = [name for name, p in named if not p.isfinite().all()]
        grads = [name for name, p in named if p.grad is not None and not p.grad.isfinite().all()]
        if weights:
            evidence = f"weights of {weights[0]} and {len(weights) - 1} more are NaN or infinite"
            yield finding("non-finite", evidence, doctor.now.number)
            return
        where = "no weight and no gradient is: it is in the loss itself"
        if grads:
            where = f"no weight is yet; the gradients of {len(grads)} tensors are"
        yield finding(f"non-finite/{self.way()}", where, doctor.now.number)

    def way(self):
        """Return why the loss is NaN, as far as its targets tell."""
        heard = [loss for seen in self.doctor.now.passes for loss in seen.losses]
        for loss in heard:
            whole = not loss.targets.is_floating_point()
            if whole and not (loss.targets != loss.ignore).any():
                return "no-targets"
        return "in-the-loss"
