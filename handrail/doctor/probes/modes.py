"""Dropout and BatchNorm do one thing in training and another in evaluation: is each in its mode?"""

import torch

from ..findings import finding
from ..hooks import bare

LONG = 20  # updates in a row


class Modes:
    """Notes in which mode the layers ran for which it matters."""

    def __init__(self, doctor):
        self.doctor, self.off = doctor, 0  # updates in a row in evaluation mode
        self.losses = 0  # taken without gradients in training mode
        self.row = self.longest = 0  # passes in a row without gradients, in training mode
        self.right = False  # was there an evaluation in evaluation mode?

    def passed(self, seen):
        if seen.grad or bare(seen.module) is not self.doctor.trained or self.right:
            self.row = 0
            return
        self.right = not any(layer.training for layer in switched(bare(seen.module)))
        self.row += 1
        self.longest = max(self.row, self.longest)

    def lost(self, seen):
        if not seen.grad and not self.right and bare(seen.module) is self.doctor.trained:
            self.losses += len(seen.losses) == 1

    def after_step(self, optimizer):
        passes = self.doctor.now.passes
        if not passes:
            return
        self.off = 0 if passes[0].training else self.off + 1
        if self.off != LONG:
            return
        model = bare(passes[0].module)
        layers = switched(model)
        if layers and not any(layer.training for layer in layers) and is_trained(model):
            since = self.doctor.updates - LONG + 1
            evidence = (
                f"model.training was False in {LONG} updates, since update {since:,}; "
                f"{len(layers)} layers depend on it: {kinds(layers)}"
            )
            yield finding("trained-in-eval-mode", evidence, self.doctor.updates)

    def ended(self):
        model, passes = self.doctor.trained, max(self.losses, self.longest)
        if self.right or model is None or passes < 2 or self.doctor.history.generated:
            return  # one that generates learns from what it writes
        layers = [layer for layer in switched(model) if layer.training]
        if layers:
            evidence = (
                f"{passes} passes without gradients, none of them in evaluation mode, where these "
                f"layers work differently: {kinds(layers)}"
            )
            yield finding("evaluated-in-train-mode", evidence, self.doctor.updates)


def switched(model):
    """Return the layers that do something else in evaluation mode; BatchNorm only if trained."""
    return [m for m in model.modules() if is_dropout(m) or is_batch_norm(m)]


def is_dropout(module):
    return isinstance(module, torch.nn.modules.dropout._DropoutNd) and module.p > 0


def is_batch_norm(module):
    if not isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
        return False
    learned = module.weight is None or module.weight.requires_grad
    return module.track_running_stats and learned


def is_trained(model):
    """Return True unless most of a model is frozen, as one whose features are only read is."""
    if any("lora_" in name for name, _ in model.named_parameters()):
        return True
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, learned in sizes if learned) > 0.5 * sum(size for size, _ in sizes)


def kinds(layers):
    return ", ".join(sorted({type(layer).__name__ for layer in layers}))
