"""Were the dimensions of pictures or series swapped by a view, before they came to the model?

A view of (H, W, C) as (C, H, W) leaves the numbers where they are. The values beside each other
then belong to different channels, and those C places apart to neighbours: they are more alike.
"""

import torch

from ..findings import finding

AT = 2  # the update at which it looks
MOST = 16  # channels
ALIKE = 0.7  # this much smaller is the difference C places apart


class Scrambled:
    """Compares neighbouring values of the model's inputs with those a few places apart."""

    def __init__(self, doctor):
        self.doctor = doctor

    def after_step(self, optimizer):
        if self.doctor.updates != AT:
            return
        for seen in self.doctor.now.passes[:1]:
            for name, value in seen.inputs.items():
                if isinstance(value, torch.Tensor) and value.is_floating_point():
                    yield from self.look(name, value.detach())

    def look(self, name, value):
        if value.layout is not torch.strided or value.ndim not in (3, 4):
            return
        if not 2 <= value.size(1) <= MOST:
            return
        channels, flat = value.size(1), value[:64].float().flatten(1)
        if flat.size(1) < 8 * channels:
            return
        apart = difference(flat, channels)
        beside = [difference(flat, n) for n in {1, channels - 1, channels + 1} - {0}]
        if 0 < apart < ALIKE * min(beside):
            evidence = (
                f"in {name} {tuple(value.shape)}, values {channels} places apart differ by "
                f"{apart:.3g}, and neighbours by {difference(flat, 1):.3g}"
            )
            yield finding("view-for-transpose/inputs", evidence, AT)


def difference(rows, places):
    """Return the mean difference of values that are some places apart in (B, N)."""
    return (rows[:, places:] - rows[:, :-places]).abs().mean().item()
