"""Was anything learned but how frequent each target is? Then other inputs change nothing."""

import math

import torch
import torch.nn.functional as F

from ..extra_pass import run
from ..findings import finding
from ..hooks import bare

LOOKS = (300, 1000, 3000)  # updates after which it looks, and at the end
LEAST = 100  # updates
FEWEST = 4  # classes, counted by the entropy: of fewer, always guessing one is often all there is
EACH = 30  # targets for each class, or their frequencies are not known
NEAR = 0.97  # the loss, compared with the entropy of the frequencies
SAME = 0.01  # logits of two rows that differ by less are the same
FLAT = 0.985  # the loss of the last quarter, compared with that of the quarter before


class Frequencies:
    """Compares the loss with the entropy of the targets; then gives each row another's input."""

    def __init__(self, doctor):
        self.doctor, self.counts, self.losses, self.seen = doctor, None, [], None

    def after_step(self, optimizer):
        update = self.doctor.updates
        if update > 20 and update % 5:
            return
        for seen in self.doctor.now.passes[:1]:
            if len(seen.losses) == 1 and seen.ids is not None:
                self.add(seen)
        if update in LOOKS:
            yield from self.judge()

    def ended(self):
        if self.doctor.updates >= LEAST:
            yield from self.judge()

    def add(self, seen):
        loss = seen.losses[0]
        plain = loss.reduction == "mean" and loss.value.ndim == 0 and not loss.smoothing
        if loss.targets.is_floating_point() or not plain:
            return
        targets = loss.targets.flatten().cpu()
        targets = targets[(targets != loss.ignore) & (targets >= 0)]
        if len(targets) < 0.6 * loss.targets.numel():  # masked: other models learn these slowly
            return
        counts = torch.bincount(targets, minlength=loss.classes)
        if self.counts is None or len(self.counts) != len(counts):
            self.counts, self.losses = torch.zeros_like(counts), []
        self.counts += counts
        self.losses.append(float(loss.value))
        self.seen = seen

    def entropy(self):
        """Return (entropy of the targets' frequencies in nats, classes seen, targets seen)."""
        counts = self.counts[self.counts > 0].double()
        total, classes = counts.sum().item(), len(counts)
        share = counts / total
        biased = -(share * share.log()).sum().item()
        return biased + (classes - 1) / (2 * total), classes, total

    def judge(self):
        if len(self.losses) < 20:
            return
        entropy, classes, total = self.entropy()
        quarter = len(self.losses) // 4
        now = sum(self.losses[-quarter:]) / quarter
        before = sum(self.losses[-2 * quarter : -quarter]) / quarter
        if total < EACH * classes or not NEAR * entropy < now < 1.3 * entropy:
            return
        if not by_place(self.seen) and apart(self.seen) < SAME:
            evidence = (
                f"the loss is {now:.3f}, that of the targets' frequencies {entropy:.3f}; with "
                f"dropout off, the logits of {len(self.seen.ids)} rows differ by less than {SAME}"
            )
            yield finding("only-frequencies-learned/same", evidence, self.doctor.updates)
            return
        says = 0.97 * math.log(classes) >= entropy >= math.log(FEWEST)  # else nothing, or all
        if not says or now < FLAT * before:
            return
        own, other = swapped(self.seen)
        if own is None or abs(own - now) > 0.1 * now or other > 1.01 * own:
            return
        evidence = (
            f"the loss is {now:.3f} and no longer falls; always guessing by the frequencies of the "
            f"targets would give {entropy:.3f}. With the inputs of other rows it is {other:.3f}, "
            f"with their own {own:.3f}"
        )
        yield finding("only-frequencies-learned", evidence, self.doctor.updates)


def by_place(seen):
    """Return True if each place of a row has a target, and not each row one."""
    return seen.losses[0].targets.numel() > len(seen.ids)


def apart(seen):
    """Return by how much the logits (B, C) of different rows differ at most, inf if unknown."""
    for scores in run(bare(seen.module), seen.inputs):
        if scores.ndim == 2 and scores.shape == (len(seen.ids), seen.losses[0].classes):
            return (scores.amax(0) - scores.amin(0)).max().item() if len(scores) > 3 else math.inf
    return math.inf


def swapped(seen):
    """Return the loss of a Pass that is run again, and with each row's input from another row."""
    model, size, loss = bare(seen.module), len(seen.ids), seen.losses[0]
    spread = any("FSDP" in type(m).__name__ for m in model.modules())
    if spread or size < 2 or bool((seen.ids == seen.ids.roll(1, 0)).all(1).any()):
        return None, None
    given = {
        name: value.roll(1, 0) if moves(name, value, size) else value
        for name, value in seen.inputs.items()
    }
    return tuple(loss_of(model, inputs, loss) for inputs in (seen.inputs, given))


def moves(name, value, size):
    target = "label" in name or "target" in name or name == "y"
    return not target and isinstance(value, torch.Tensor) and value.ndim and len(value) == size


def loss_of(model, inputs, loss):
    """Return the mean cross-entropy of a model's scores, or None if it gives none."""
    for scores in run(model, inputs):
        if scores.ndim > 1 and scores.size(-1) == loss.classes:
            flat = scores.flatten(0, -2).float()
            if len(flat) == loss.targets.numel():
                targets = loss.targets.flatten()
                return F.cross_entropy(flat, targets, ignore_index=loss.ignore).item()
    return None
