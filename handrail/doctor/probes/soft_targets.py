"""Do soft targets sum to 1 over the classes, or over another dimension?"""

import torch

from ..findings import finding

CLOSE = 1e-3


class SoftTargets:
    """Looks at what a loss between distributions compares, and at the targets of a CTC loss."""

    def __init__(self, doctor):
        self.doctor = doctor

    def loss_targets(self, kind, scores, targets, options):
        """The first calls of a loss function, with its targets and its other arguments."""
        if kind == "ctc_loss":
            yield from self.blank_in_targets(targets, options)
        elif targets.is_floating_point() and targets.shape == scores.shape and targets.ndim > 1:
            yield from self.other_dimension(kind, scores, targets, options)

    def other_dimension(self, kind, scores, targets, options):
        targets = targets.exp() if options.get("log_target") else targets
        classes = 1 if kind == "cross_entropy" else whole_dimension(scores.exp())
        sums = whole_dimension(targets)
        if classes is None or sums in (None, classes) or sums_to_one(targets, classes):
            return
        evidence = (
            f"the scores are over dimension {classes} of {tuple(scores.shape)}, and the targets "
            f"sum to 1 over dimension {sums}"
        )
        yield finding("targets-over-another-dimension", evidence, self.doctor.now.number)

    def blank_in_targets(self, targets, options):
        blank, lengths = options.get("blank", 0), options.get("target_lengths")
        if targets.ndim == 2:  # padded: only what counts may be looked at
            places = torch.arange(targets.size(1), device=targets.device)
            lengths = torch.as_tensor(lengths, device=targets.device)
            targets = targets[places < lengths[:, None]]
        number = int((targets == blank).sum())
        if number:
            evidence = f"{number} of {targets.numel()} targets are {blank}, which is the blank"
            yield finding("blank-in-targets", evidence, self.doctor.now.number)


def sums_to_one(values, dim):
    """Return True if values sum to 1 over a dimension, everywhere."""
    return bool(((values.float().sum(dim) - 1).abs() < CLOSE).all())


def whole_dimension(values):
    """Return the one dimension over which values sum to 1, None if there is none or several."""
    dims = [dim for dim in range(values.ndim) if values.size(dim) > 1 and sums_to_one(values, dim)]
    return dims[0] if len(dims) == 1 else None
