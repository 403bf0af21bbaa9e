"""Are there units that give 0 for every input, and so never learn again?"""

import torch

from ..findings import finding

FIRST, LAST = 30, 100  # the updates in which it looks, every tenth
DEAD = 0.8  # this part of a layer's units: a small network that learns well may lose 60%


class Units:
    """Notes which units of a layer ever got a gradient: behind a ReLU that is 0, none does."""

    def __init__(self, doctor):
        self.doctor, self.alive = doctor, {}  # weight: its name, alive units, looks

    def before_step(self, optimizer):
        model, number = self.doctor.trained, self.doctor.now.number
        if model is None or not FIRST <= number <= LAST or number % 10:
            return
        for name, weight in layers(model):
            alive = weight.grad.detach().flatten(1).any(1)
            key = id(weight), len(alive)  # the id of one that is gone may be another's
            _, known, looks = self.alive.get(key, (name, alive, 0))
            self.alive[key] = name, known | alive, looks + 1
        if number == LAST:
            yield from self.judge()

    def judge(self):
        looked = [layer for layer in self.alive.values() if layer[2] >= 5]
        dead = [(name, 1 - float(alive.float().mean()), looks) for name, alive, looks in looked]
        found = [layer for layer in dead if DEAD < layer[1] < 1]
        if found:
            some = ", ".join(f"{name} ({share:.0%})" for name, share, _ in found[:4])
            evidence = f"gradients that were 0 in all of {found[0][2]} updates: {some}"
            yield finding("dead-units", evidence, LAST)


def layers(model):
    """Yield (name, weight) of the hidden layers that are trained and got a gradient."""
    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    for name, module in model.named_modules():
        weight = getattr(module, "weight", None)
        if isinstance(module, kinds) and isinstance(weight, torch.nn.Parameter):
            if weight.grad is not None and not weight.grad.is_sparse and len(weight) >= 8:
                yield name, weight
