"""Several batches per update: how much does each of them count?"""

from ..findings import finding
from ..record import mean_of

EARLY = 40  # updates


class Accumulation:
    """Compares what backward gets with the losses of the batches of one update."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.means = self.whole = 0  # updates in a row: of means of unequal batches; of sums

    def before_step(self, optimizer):
        doctor, passes, losses = self.doctor, self.doctor.now.passes, self.doctor.now.losses
        if len(losses) < 2 or len(passes) != len(losses) or doctor.now.age > EARLY:
            return
        if any(len(seen.losses) != 1 for seen in passes):
            return
        heard = [seen.losses[0] for seen in passes]
        several_tasks = len({loss.classes for loss in heard}) > 1
        if several_tasks or any(loss.targets.is_floating_point() for loss in heard):
            return
        counts = [int((loss.targets != loss.ignore).sum()) for loss in heard]
        means = list(map(mean_of, heard))
        if 0 in counts or 0 in means:
            return
        factors = [float(loss) / mean for loss, mean in zip(losses, means, strict=True)]
        if 0 < max(factors) < 1.02 * min(factors):
            yield from self.summed(optimizer, factors)
            yield from self.averaged(counts, factors)
        else:
            self.means = self.whole = 0

    def summed(self, optimizer, factors):
        """The sum of many batches is as many times too large; Adam does not feel it."""
        sgd = "SGD" in type(optimizer).__name__
        felt = sgd or self.doctor.history.tight > 1
        whole = felt and len(factors) > 2 and abs(min(factors) - 1) < 0.01
        self.whole = self.whole + 1 if whole else 0
        if self.whole == 3:
            felt = "SGD takes a step as many times larger" if sgd else "clipping cuts off the rest"
            evidence = (
                f"each of the {len(factors)} losses before a step goes backward with its whole "
                f"weight; {felt}"
            )
            update = self.doctor.now.number
            yield finding("accumulation-not-divided", evidence, update, batches=len(factors))

    def averaged(self, counts, factors):
        """With the mean of means, a token in a short batch counts more."""
        self.means = self.means + 1 if max(counts) >= 1.5 * min(counts) else 0
        if self.means >= 2:
            evidence = (
                f"the {len(counts)} batches of an update have {min(counts)} to {max(counts)} "
                f"trained tokens, and each loss has the weight {factors[0]:.3g}"
            )
            yield finding("accumulation-mean-of-means", evidence, self.doctor.now.number)
