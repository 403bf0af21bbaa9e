"""Do the outputs of a regression have anything to do with their targets?"""

import torch

from ..findings import finding

COLUMNS = 64  # of a target, spread over it
ROWS = 8  # of a batch, at least
LOOKS = 400  # that are kept; then every second of them
LEAST = 200  # updates


class Regression:
    """Keeps means of outputs, targets and their products, from one update in ten."""

    def __init__(self, doctor):
        self.doctor, self.calls, self.looks = doctor, [], []

    def regressed(self, output, target, value):
        if output.shape == target.shape and output.ndim and len(output) >= ROWS:
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
            same = not self.looks or self.looks[-1].shape == parts.shape
            self.looks = [*(self.looks if same else []), parts * (whole & varies)]
            if len(self.looks) == LOOKS:
                self.looks = self.looks[::2]

    def ended(self):
        """Look at both halves: what was learned for a while, as which action pays, was learned."""
        doctor, middle = self.doctor, len(self.looks) // 2
        if doctor.updates < LEAST or middle < 10 or len(doctor.steppers) > 1:
            return
        halves = self.looks[:middle], self.looks[middle:]
        shares = [explained(torch.stack(half).cpu().double()) for half in halves]
        if max(shares) < 0.02:
            evidence = (
                f"in {len(self.looks)} updates that were looked at, the outputs explain "
                f"{max(shares):.1%} of the variance of the targets"
            )
            yield finding("nothing-learned/regression", evidence, doctor.updates)


def explained(looks):
    """Return the share of the targets' variance that outputs explain; 1 if it cannot be told."""
    y, p, yy, pp, yp = looks.mean(0)
    if not looks[:, 2].any(1).all():  # another loss, or targets that are all the same
        return 1.0
    spread, moved = (yy - y * y).sum(), (pp - p * p).sum()
    return float((yp - y * p).sum().clamp(min=0) ** 2 / (spread * moved + 1e-30))


def columns(values):
    """Return some columns (B, K) of values (B, ...)."""
    flat = values.float().reshape(len(values), -1)
    return flat[:, :: max(1, flat.size(1) // COLUMNS)][:, :COLUMNS]
