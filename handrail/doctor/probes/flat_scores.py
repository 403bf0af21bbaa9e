"""Are the scores so close together that the loss cannot fall, although their order is right?"""

import math

from ..findings import finding

LOOKS, ROWS = 4, 256
FLAT = 0.3  # the largest score of a row minus its smallest
CLASSES = 8


class FlatScores:
    """Looks at the scores of four updates, one loss each."""

    def __init__(self, doctor):
        self.doctor, self.spreads, self.right, self.at = doctor, [], [], set()

    def scored(self, scores, targets):
        """Scores (B, C) and targets (B), after some updates."""
        number = self.doctor.now.number
        if number in self.at or scores.ndim != 2 or targets.shape != scores.shape[:1]:
            return
        self.at.add(number)
        if targets.is_floating_point() or scores.size(1) < CLASSES or not len(targets):
            return
        scores, targets = scores[:ROWS].float(), targets[:ROWS]
        right = (scores.argmax(1) == targets).float().mean()
        guess = targets.clamp(min=0).bincount().max() / len(targets)
        self.spreads.append((scores.amax(1) - scores.amin(1)).max().item())
        self.right.append((right / guess).item() if right > 0.3 else 0)
        flat = max(self.spreads) < FLAT and self.spreads[-1] < 1.5 * self.spreads[0]
        if len(self.spreads) == LOOKS and flat and self.right[-1] > 3:
            most, chance = max(self.spreads), math.log(scores.size(1))
            evidence = (
                f"in {LOOKS} looks since update {min(self.at)} no row's scores were further apart "
                f"than {most:.2g}, so the loss cannot fall below ln {scores.size(1):,} - {most:.2g}"
                f" = {chance - most:.3g}; {right:.0%} of the largest scores are right"
            )
            yield finding("scores-too-flat", evidence, number)
