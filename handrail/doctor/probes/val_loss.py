"""The loss on val next to the loss on train."""

from itertools import pairwise

import torch

from ..findings import finding

GOOD = 0.05  # nats: a loss below it has nothing to lose


class ValLoss:
    """Follows the evaluations: the first training pass after one closes it."""

    def __init__(self, doctor):
        self.doctor, self.vals = doctor, []  # (update, loss on val, loss on train then)
        self.round = []  # of the evaluation under way: (mean loss, targets) of each pass

    def lost(self, seen):
        loss = seen.losses[-1]
        if seen.grad or loss.value.ndim:
            return
        count = torch.tensor(1)
        if not loss.targets.is_floating_point():
            count = (loss.targets != loss.ignore).sum()
        mean = loss.value if loss.reduction == "mean" else loss.value / count.clamp(min=1)
        self.round.append((mean, count))

    def passed(self, seen):
        if seen.grad and self.round and self.doctor.updates:
            yield from self.evaluated()

    def ended(self):
        if self.round:
            yield from self.evaluated()

    def evaluated(self):
        """Val rises, and has for a while, although train falls."""
        update, train = self.doctor.updates, self.doctor.history.recent()
        total = sum(float(count) for _, count in self.round)
        value = sum(float(mean) * float(count) for mean, count in self.round) / max(1.0, total)
        self.round = []
        self.vals.append((update, value, train))
        if len(self.vals) < 4:
            return
        best = min(self.vals, key=lambda val: val[1])
        rising = all(a[1] < b[1] for a, b in pairwise(self.vals[-3:]))
        long_ago = self.vals[::-1].index(best) >= 0.25 * len(self.vals)
        if (
            rising
            and long_ago
            and value > GOOD
            and value > 1.03 * best[1]
            and train < 0.95 * best[2]
        ):
            evidence = (
                f"val {best[1]:.3f} at update {best[0]:,}, {value:.3f} now; train {best[2]:.3f} "
                f"then, {train:.3f} now"
            )
            yield finding("val-rises", evidence, update, best=best[0])
