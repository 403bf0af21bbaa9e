"""Are the inputs of an evaluation on the scale of those that were trained on?"""

import torch

from ..findings import finding
from ..hooks import bare

TIMES = 2.5  # as many times larger or smaller
ROWS = 32  # of an evaluation
MOST = 100  # passes that are looked at: on a GPU each has to be waited for


class EvalInputs:
    """Compares how far values lie from their mean, of classifiers whose first input is numbers."""

    def __init__(self, doctor):
        self.doctor, self.model, self.looks = doctor, None, 0
        self.trained = 0.0  # mean distance from the mean, of what was trained on
        self.ratios, self.rows = [], 0  # of the passes of the evaluation that goes on

    def answered(self, seen, output):
        if self.trained and not seen.training and bare(seen.module) is self.model:
            value = numbers_of(seen)
            if value is not None and self.looks < MOST:
                self.looks += 1
                self.ratios.append(spread(value) / self.trained)
                self.rows += len(value)

    def after_step(self, optimizer):
        yield from self.judge()
        seen = next((seen for seen in self.doctor.now.passes if classes_of(seen)), None)
        if seen is not None and numbers_of(seen) is not None:  # kept in two updates only
            self.model, self.trained = bare(seen.module), spread(numbers_of(seen))

    def ended(self):
        yield from self.judge()

    def judge(self):
        """Judge an evaluation: all of its passes are far off, and to the same side."""
        ratios, rows = self.ratios, self.rows
        self.ratios, self.rows = [], 0
        if rows >= ROWS and (min(ratios) > TIMES or max(ratios) < 1 / TIMES):
            middle = sorted(ratios)[len(ratios) // 2]
            evidence = (
                f"values lie {self.trained:.3g} from their mean in training, and "
                f"{middle * self.trained:.3g} in {rows} rows of an evaluation"
            )
            yield finding("evaluated-on-another-scale", evidence, self.doctor.updates)


def classes_of(seen):
    return any(not loss.targets.is_floating_point() for loss in seen.losses)


def numbers_of(seen):
    """Return the first input of numbers (B, ...), None if there is none."""
    for value in seen.inputs.values():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 1:
            return value.detach()
    return None


def spread(value):
    value = value.float()
    return (value - value.mean()).abs().mean().item()
