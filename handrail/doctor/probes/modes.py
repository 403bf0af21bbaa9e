"""Probe J: dropout and BatchNorm do one thing while training and another while evaluating; is each in its mode?"""

import torch

from ..findings import finding
from ..hooks import bare

LONG = 20  # updates in a row


class Modes:
    """Notes in which mode the layers ran for which it matters."""

    def __init__(self, doctor):
        self.doctor, self.off = doctor, 0  # updates in a row in evaluation mode
        self.measured, self.row, self.longest, self.right = (
            0,
            0,
            0,
            False,
        )  # evaluations in training mode, those in a row; was there one in eval mode?

    def passed(self, seen):
        if seen.grad or bare(seen.module) is not self.doctor.trained or self.right:
            self.row = 0
            return
        self.right = not any(layer.training for layer in switched(bare(seen.module)))
        self.row += 1
        self.longest = max(self.row, self.longest)

    def lost(self, seen):
        self.measured += (
            not seen.grad
            and not self.right
            and bare(seen.module) is self.doctor.trained
            and len(seen.losses) == 1
        )

    def after_step(self, optimizer):
        passes = self.doctor.now.passes
        if not passes:
            return
        self.off = 0 if passes[0].training else self.off + 1
        layers = switched(bare(passes[0].module)) if self.off == LONG else []
        if (
            layers
            and not any(layer.training for layer in layers)
            and learns(bare(passes[0].module))
        ):
            since = self.doctor.updates - LONG + 1
            evidence = (
                f"model.training was False in {LONG} updates, since update {since:,}; "
                f"{len(layers)} layers depend on it: {kinds(layers)}"
            )
            yield finding("trained-in-eval-mode", evidence, self.doctor.updates)

    def ended(self):
        model = self.doctor.trained
        if self.right or model is None or max(self.measured, self.longest) < 2:
            return
        layers = [layer for layer in switched(model) if layer.training]
        if layers and not any(
            getattr(probe, "written", 0) for probe in self.doctor.probes
        ):  # one that learns from what it writes
            passes = max(self.measured, self.longest)
            evidence = (
                f"{passes} passes without gradients, none of them in evaluation mode, where these "
                f"layers work differently: {kinds(layers)}"
            )
            yield finding("evaluated-in-train-mode", evidence, self.doctor.updates)


def switched(model):
    """Return the layers of a model that do something else in evaluation mode; BatchNorm only if it is trained."""
    batch = torch.nn.modules.batchnorm._BatchNorm
    return [
        m
        for m in model.modules()
        if isinstance(m, torch.nn.modules.dropout._DropoutNd)
        and m.p > 0
        or isinstance(m, batch)
        and m.track_running_stats
        and (m.weight is None or m.weight.requires_grad)
    ]


def learns(model):
    """Return True unless most of a model is frozen, as one whose features are only read is."""
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return any("lora_" in name for name, _ in model.named_parameters()) or sum(
        size for size, learned in sizes if learned
    ) > 0.5 * sum(size for size, _ in sizes)


def kinds(layers):
    return ", ".join(sorted({type(layer).__name__ for layer in layers}))
