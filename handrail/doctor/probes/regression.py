"""Do the outputs of a regression have anything to do with their targets?"""

import torch

from ..findings import finding

COLUMNS = 64  # of a target, spread over it
LOOKS = 400  # that are kept
LEAST = 200  # updates


class Regression:
    """Keeps means of outputs, targets and their products, from one update in ten."""

    def __init__(self, doctor):
        self.doctor, self.calls, self.looks = doctor, [], []

    def regressed(self, output, target, value):
        if output.shape == target.shape and output.ndim and len(output) > 1:
            y, p = (columns(each) for each in (target, output))
            parts = torch.stack([y, p, y * y, p * p, y * p]).mean(1)
            self.calls.append((parts, value))

    def after_step(self, optimizer):
        """Keep what was compared, where nothing else was learned: beside a policy, it may be."""
        calls, self.calls = self.calls, []
        losses = self.doctor.now.losses
        if len(calls) == len(losses) == 1:
            parts, value = calls[0]
            whole = (losses[0].reshape(-1)[0] - value).abs() < 1e-5 * value
            varies = (parts[2] - parts[0] ** 2).sum() > 1e-6 * parts[2].sum()
            self.looks = [*self.looks[1 - LOOKS :], parts * (whole & varies)]

    def ended(self):
        looks, doctor = self.looks[len(self.looks) // 2 :], self.doctor
        if doctor.updates < LEAST or len(looks) < 10 or len(doctor.steppers) > 1:
            return
        width = min(parts.size(1) for parts in looks)
        looks = torch.stack([parts[:, :width].cpu() for parts in looks]).double()
        if not looks.any(2)[:, 2].all():  # another loss, or targets that are all the same
            return
        y, p, yy, pp, yp = looks.mean(0)
        spread, moved = (yy - y * y).sum(), (pp - p * p).sum()
        explained = float((yp - y * p).sum().clamp(min=0) ** 2 / (spread * moved + 1e-30))
        if explained < 0.02:
            evidence = (
                f"in {len(looks)} updates of the last half, the outputs explain {explained:.1%} of "
                "the variance of the targets"
            )
            yield finding("nothing-learned/regression", evidence, doctor.updates)


def columns(values):
    """Return some columns (B, K) of values (B, ...)."""
    flat = values.float().reshape(len(values), -1)
    return flat[:, :: max(1, flat.size(1) // COLUMNS)][:, :COLUMNS]
