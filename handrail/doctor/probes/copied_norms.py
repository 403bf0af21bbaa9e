"""Has the BatchNorm of a copy that is evaluated ever seen a batch?"""

from weakref import WeakKeyDictionary, WeakSet

import torch

from ..findings import finding
from ..hooks import bare

EARLY = 20  # updates


class CopiedNorms:
    """Looks at models that are evaluated and not trained; at each a few times, as a GPU waits."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.trained = WeakSet()  # models that ran in training mode
        self.looked = WeakKeyDictionary()  # model: the update at which it was looked at

    def passed(self, seen):
        model, update = bare(seen.module), self.doctor.updates
        if seen.training:
            self.trained.add(model)
        elif update >= max(EARLY, 2 * self.looked.get(model, 0)):
            self.looked[model] = update
            yield from self.look(model, update)

    def look(self, model, update):
        layers, owned = norms(model), self.doctor.history.owned
        if not layers or any(id(p) in owned for p in model.parameters()):
            return
        changed = any(layer.bias is not None and layer.bias.any() for layer in layers)
        if not changed or not all(map(untouched, layers)):  # at its birth a bias is 0
            return
        for other in self.trained:
            theirs = norms(other)
            same = [each.num_features for each in theirs] == [each.num_features for each in layers]
            if same and theirs[0].num_batches_tracked:
                evidence = (
                    f"all {len(layers)} have running_mean 0, running_var 1 and num_batches_tracked "
                    f"0, but biases that are not 0; the model that is trained has counted "
                    f"{int(theirs[0].num_batches_tracked):,} batches"
                )
                yield finding("batchnorm-never-updated", evidence, update)
                return


def norms(model):
    """Return the BatchNorm layers that keep a mean and a variance for evaluation."""
    kind = torch.nn.modules.batchnorm._BatchNorm
    layers = [layer for layer in model.modules() if isinstance(layer, kind)]
    return [layer for layer in layers if layer.num_batches_tracked is not None]


def untouched(layer):
    fresh = not layer.num_batches_tracked and not layer.running_mean.any()
    return fresh and bool((layer.running_var == 1).all())
