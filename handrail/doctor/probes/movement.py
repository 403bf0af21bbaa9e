"""Does a step change the weights?"""

import torch

from ..findings import finding
from ..record import parameters


class Movement:
    """Counts the steps that changed no tensor, at the updates that are looked at closely."""

    def __init__(self, doctor):
        self.doctor, self.still, self.none = doctor, 0, 0

    def after_step(self, optimizer):
        now = self.doctor.now
        if not now.before:
            return
        yield from self.frozen(optimizer, now)
        self.still = self.still + 1 if not now.moved and now.moving and now.rate > 0 else 0
        if self.still >= 3:
            kinds = {p.dtype for p in parameters(optimizer)}
            low = bool(kinds & {torch.bfloat16, torch.float16})
            evidence = (
                f"there are gradients, the learning rate is {now.rate:.3g}, and {len(now.before)} "
                f"tensors ({', '.join(map(str, kinds))}) are the same bits after the step"
            )
            name = "weights-do-not-move/lost-in-16-bits" if low else "weights-do-not-move"
            yield finding(name, evidence, now.number)

    def frozen(self, optimizer, now):
        """All that the optimizer has is frozen, and yet it steps."""
        tensors = parameters(optimizer)
        frozen = bool(now.losses) and not any(p.requires_grad for p in tensors)
        self.none = self.none + 1 if frozen else 0
        if self.none == 3:
            evidence = f"in 3 updates none of the optimizer's {len(tensors)} tensors could learn"
            yield finding("weights-do-not-move/frozen", evidence, now.number)
