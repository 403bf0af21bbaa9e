"""Do 16 bits hold the gradients, the steps, and the ids?"""

import torch

from ..findings import finding
from ..record import parameters, sample

HALVES = (torch.bfloat16, torch.float16)
WHOLE, LARGEST = 2048, 65504  # float16 holds every whole number up to there; any number
IDS = 64  # different ones, that is no chance


class Precision:
    """Looks for fp16 without a scaler, and for 16-bit weights that swallow their steps."""

    def __init__(self, doctor):
        self.doctor, self.scaler = doctor, False
        self.low = 0  # looks in a row at which hardly a 16-bit value changed

    def scaled(self, enabled):
        self.scaler = self.scaler or enabled

    def passed(self, seen):
        """Ids that went through 16 bits: of the large ones, those that fit are left, no other."""
        look = seen.grad and self.doctor.now.number in (2, 20)
        for ids in seen.inputs.values() if look else ():
            if not isinstance(ids, torch.Tensor) or ids.dtype not in (torch.int64, torch.int32):
                continue
            large, small = ids[(ids > WHOLE) & (ids < LARGEST)].unique(), ids[ids < WHOLE].unique()
            odd = int((small % 2 == 1).sum())
            if len(large) >= IDS <= odd and torch.equal(large, large.half().to(ids.dtype)):
                evidence = f"{odd} odd ids below {WHOLE:,}; above it {len(large)}, none of them odd"
                yield finding("ids-rounded", evidence, self.doctor.now.number)

    def before_step(self, optimizer):
        doctor, model = self.doctor, self.doctor.trained
        if doctor.now.number not in (2, 3) or model is None or self.scaler:
            return
        weights = any(p.dtype == torch.float16 for p in model.parameters() if p.requires_grad)
        cast = any(seen.autocast == torch.float16 for seen in doctor.now.passes)
        if weights or cast:
            grads = [p.grad for p in model.parameters() if p.grad is not None]
            zeros = sum(int((grad == 0).sum()) for grad in grads)
            share = zeros / max(1, sum(grad.numel() for grad in grads))
            what = "the weights themselves are" if weights else "autocast uses"
            evidence = f"{what} fp16, no GradScaler was used; {share:.0%} of the gradients are 0"
            name = "fp16-without-scaler/weights" if weights else "fp16-without-scaler"
            yield finding(name, evidence, doctor.now.number)

    def after_step(self, optimizer):
        update = self.doctor.now
        if update.number < 20 or not update.moving or update.rate <= 0:
            return
        share = changed_share(optimizer, update.before)
        full = update.rate > 0.5 * max(self.doctor.history.rates)  # it has not fallen yet
        self.low = self.low + 1 if 0 < share < (0.3 if full else 0.05) else 0
        if self.low == 2:
            evidence = (
                f"{share:.0%} of the values changed at update {update.number:,}, learning rate "
                f"{update.rate:.3g}"
            )
            yield finding("weights-do-not-move/most-lost-in-16-bits", evidence, update.number)


def changed_share(optimizer, before):
    """Return which part of the sampled 16-bit values a step changed; 1 where there are none."""
    changed = total = 0
    for p in parameters(optimizer):
        if p.dtype in HALVES and p.grad is not None and id(p) in before:
            now = sample(p)
            changed += int((before[id(p)] != now).sum())
            total += now.numel()
    return changed / total if total else 1
