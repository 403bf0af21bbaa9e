"""Is the model on the CPU although there is a GPU?"""

import os
import sys

import torch

from ..findings import finding

SMALL = 100_000  # weights: a GPU would be no faster
DRIVERS = ("/dev/nvidiactl", "/proc/driver/nvidia")


class Device:
    """Looks once, after the first update."""

    def __init__(self, doctor):
        self.doctor = doctor

    def after_step(self, optimizer):
        model = self.doctor.trained
        if self.doctor.updates != 1 or model is None or is_chosen():
            return
        weights = list(model.parameters())
        if (
            not weights
            or weights[0].device.type != "cpu"
            or sum(p.numel() for p in weights) < SMALL
        ):
            return
        if torch.accelerator.is_available():
            there = torch.accelerator.current_accelerator()
            yield finding("silent-cpu", f"the weights are on the CPU; torch sees {there}", 1)
        elif any(map(os.path.exists, DRIVERS)):
            evidence = f"torch {torch.__version__}, built for CUDA {torch.version.cuda}"
            yield finding("silent-cpu/driver", evidence, 1)


def is_chosen():
    """Return True if a person said that the CPU is to be used."""
    accelerate = sys.modules.get("accelerate.state")
    if accelerate and accelerate.PartialState._shared_state.get("_cpu"):
        return True
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1")
    asked = os.environ.get("ACCELERATE_USE_CPU", "").lower() in ("1", "true", "yes")
    return "--cpu" in sys.argv or hidden or asked
