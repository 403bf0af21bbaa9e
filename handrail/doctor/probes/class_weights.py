"""Do class weights favour the rare classes, or by mistake the frequent one?"""

import torch

from ..findings import finding

CALLS = 8  # of a loss with the same weights, in which the targets are counted
FEW = 8  # rare targets that have to be among them


class ClassWeights:
    """Counts targets, and compares the odds of a frequent class with those of its weight."""

    def __init__(self, doctor):
        self.doctor, self.counts = doctor, {}  # weights: (calls, how often there was each class)

    def loss_targets(self, kind, scores, targets, options):
        if kind == "binary_cross_entropy_with_logits":
            weight = options.get("pos_weight")
            if weight is None or weight.numel() != 1:
                return
            weights, targets = (1.0, float(weight)), (targets > 0.5).long().flatten()
        elif options.get("weight") is None or targets.is_floating_point():
            return
        else:
            weights = tuple(options["weight"].tolist())
            targets = targets[targets != options.get("ignore_index", -100)]
        calls, seen = self.counts.get(weights, (0, 0))
        seen = seen + torch.bincount(targets, minlength=len(weights)).cpu()
        self.counts[weights] = calls + 1, seen
        if calls + 1 == CALLS:
            yield from self.compare(torch.tensor(weights), seen)

    def compare(self, weights, seen):
        """Weights that are meant to balance are the inverse of how frequent the classes are."""
        top = int(seen.argmax())
        others = (seen >= FEW) & (weights > 0)
        others[top] = False
        if not others.any() or seen[top] < 0.6 * seen.sum():
            return
        second = int(weights.where(others, 0).argmax())
        favoured, frequent = (float(each[top] / each[second]) for each in (weights, seen))
        if favoured > 1.4 and frequent > 2 and frequent / 3 < favoured < frequent * 3:
            evidence = (
                f"in {CALLS} losses class {top} is {frequent:.3g} times as frequent as class "
                f"{second}, and its weight is {favoured:.3g} times as large"
            )
            yield finding("class-weights-inverted", evidence, self.doctor.now.number)
