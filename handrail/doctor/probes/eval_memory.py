"""Does an evaluation keep what only a backward pass needs?"""

from ..findings import finding

PASSES = 4  # in a row, without a backward


class EvalMemory:
    """Counts passes in eval mode that record gradients."""

    def __init__(self, doctor):
        self.doctor, self.kept = doctor, 0
        self.learns = False  # was there a pass in training mode?

    def backward(self, *_):
        self.kept = 0

    asked_for = backward

    def passed(self, seen):
        if not seen.grad:
            return
        self.learns |= seen.training
        if not seen.training and self.learns:
            self.kept += any(p.requires_grad for p in seen.module.parameters())
        if self.kept == PASSES:
            evidence = (
                f"{PASSES} passes in eval mode recorded gradients, with no backward between them"
            )
            yield finding("out-of-memory-late/evaluation", evidence, self.doctor.updates)
