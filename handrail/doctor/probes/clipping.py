"""Are gradients clipped at the right time: after backward, and without the scaler's factor?"""

import math

from ..findings import finding


class Clipping:
    """Follows clip_grad_norm_ between backward, scaler.scale, scaler.unscale_ and the step."""

    def __init__(self, doctor):
        self.doctor, self.scaling, self.times = doctor, False, 0
        self.fresh, self.early, self.in_vain = True, False, 0  # see backward

    def scaled(self, enabled):
        self.scaling = enabled

    def unscaled(self):
        self.scaling = False

    def backward(self, loss, fresh):
        """Clipping, then the first backward after a step: what is stepped with is not clipped."""
        early, self.fresh, self.early = self.early, False, False
        self.in_vain += early
        if early and self.in_vain == 3 and len(self.doctor.steppers) == 1:
            evidence = "3 times, clip_grad_norm_ came after a step and before the next backward"
            yield finding("clipped-before-backward", evidence, self.doctor.now.number)

    def asked_for(self):
        self.fresh = False  # gradients that a program may put into .grad itself

    def after_step(self, optimizer):
        self.fresh, self.early = True, False

    def clipped(self, norm, most):
        self.early = self.fresh and float(most) < math.inf
        self.times += self.scaling and float(most) < math.inf
        if self.times == 3:
            evidence = (
                "clip_grad_norm_ came 3 times between scaler.scale(...) and scaler.unscale_; the "
                f"last norm was {float(norm):.3g}, the limit {float(most):.3g}"
            )
            yield finding("clipped-while-scaled", evidence, self.doctor.updates)
