"""Do the inputs have a scale that a layer with usual first weights can read?"""

import torch

from ..findings import finding
from ..hooks import bare

AT = 2  # the update at which it looks
LARGE = 60  # root mean square: a pixel from 0 to 255 has about 100, a standardised input 1
NORMS = ("norm", "scale", "rescal", "standard")  # in the name of a layer that changes the scale


class Scale:
    """Looks at what the first layer reads, where no layer beside it normalises."""

    def __init__(self, doctor):
        self.doctor = doctor

    def after_step(self, optimizer):
        doctor = self.doctor
        seen = next((seen for seen in doctor.now.passes if seen.losses), None)
        if doctor.updates != AT or seen is None or doctor.was_loaded():
            return
        first, follows = first_layers(bare(seen.module))
        if first is None or any(word in follows for word in NORMS):
            return
        for name, value in seen.inputs.items():
            if not isinstance(value, torch.Tensor) or not value.is_floating_point():
                continue
            if "mask" in name or "bias" in name or not value.isfinite().all():
                continue
            if value.ndim < 2 or first.weight.size(1) not in (value.size(1), value.size(-1)):
                continue
            size = value.float().square().mean().sqrt().item()
            if size > LARGE:
                evidence = (
                    f"{name} has values from {value.min():.3g} to {value.max():.3g}, root mean "
                    f"square {size:.3g}; a {type(first).__name__} reads them as they are"
                )
                yield finding("inputs-not-scaled", evidence, AT)
            return


def first_layers(model):
    """Return (the first layer with a weight matrix, the names of the kinds around it)."""
    layers = [m for m in model.modules() if next(m.children(), None) is None]
    kinds = (torch.nn.Linear, torch.nn.modules.conv._ConvNd)
    place = next((i for i, layer in enumerate(layers) if isinstance(layer, kinds)), None)
    if place is None:
        return None, ""
    names = " ".join(type(layer).__name__.lower() for layer in layers[: place + 2])
    return layers[place], names
