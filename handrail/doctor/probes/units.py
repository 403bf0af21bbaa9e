"""Are there units that give 0 for every input, and so never learn again?"""

import torch

from ..findings import finding

FIRST, LAST = 30, 100  # the updates in which it looks, every tenth
DEAD = 0.8  # this part of a layer's units: a small network that learns well may lose 60%


class Units:
    """Notes which units of a layer ever got a gradient: behind a ReLU that is 0, none does."""

    def __init__(self, doctor):
        self.doctor, self.alive, self.looks = doctor, {}, 0

    def before_step(self, optimizer):
        model, number = self.doctor.trained, self.doctor.now.number
        if model is None or not FIRST <= number <= LAST or number % 10:
            return
        self.looks += 1
        for name, weight in layers(model):
            alive = weight.grad.detach().flatten(1).any(1)
            known = self.alive.get((name, len(alive)))  # a second model may have the same names
            self.alive[name, len(alive)] = alive if known is None else known | alive
        if number == LAST:
            yield from self.judge()

    def judge(self):
        dead = {name: 1 - float(on.float().mean()) for (name, _), on in self.alive.items()}
        found = {name: share for name, share in dead.items() if DEAD < share < 1}
        if found and self.looks >= 5:
            some = ", ".join(f"{name} ({share:.0%})" for name, share in list(found.items())[:4])
            evidence = f"gradients that were 0 in all of {self.looks} updates: {some}"
            yield finding("dead-units", evidence, LAST)


def layers(model):
    """Yield (name, weight) of the hidden layers that are trained and got a gradient."""
    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, kinds) and isinstance(weight, torch.nn.Parameter):
            if weight.grad is not None and not weight.grad.is_sparse and len(weight) >= 8:
                yield name, weight
