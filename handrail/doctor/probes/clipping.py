"""Are gradients clipped while they are still scaled?"""

import math

from ..findings import finding


class Clipping:
    """Follows scaler.scale, scaler.unscale_ and clip_grad_norm_."""

    def __init__(self, doctor):
        self.doctor, self.scaling, self.times = doctor, False, 0

    def scaled(self, enabled):
        self.scaling = enabled

    def unscaled(self):
        self.scaling = False

    def clipped(self, norm, most):
        self.times += self.scaling and float(most) < math.inf
        if self.times == 3:
            evidence = (
                "clip_grad_norm_ came 3 times between scaler.scale(...) and scaler.unscale_; the "
                f"last norm was {float(norm):.3g}, the limit {float(most):.3g}"
            )
            yield finding("clipped-while-scaled", evidence, self.doctor.updates)
