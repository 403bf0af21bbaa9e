"""Is all that was trained in the adapter that was saved?"""

from pathlib import Path

import torch

from ..findings import finding
from ..record import some

UNUSED = "original_module"  # what a module of modules_to_save was before


class Adapter:
    """Compares the names in an adapter's file with the weights that are trained beside it."""

    def __init__(self, doctor):
        self.doctor, self.missing, self.folder = doctor, {}, ""

    def adapter_saved(self, model, folder):
        from safetensors import safe_open

        adapter, owned = model.active_adapter, self.doctor.history.owned
        part = "" if adapter == "default" else adapter
        file = Path(folder, part, "adapter_model.safetensors")
        if not file.exists():
            return
        with safe_open(file, "pt") as stream:
            saved = set(stream.keys())
        trained = {
            name: p
            for name, p in model.named_parameters()
            if id(p) in owned and p.requires_grad and not {adapter, UNUSED} & {*name.split(".")}
        }
        self.folder = folder
        self.missing = {
            name: p
            for name, p in trained.items()
            if saved.isdisjoint({name, name.replace("base_layer.", "")})
        }

    def stored(self, found):
        """What is saved with torch.save beside it is not missing."""
        waiting, held = [found], set()
        while waiting:
            value = waiting.pop()
            if isinstance(value, torch.nn.Module):
                value = dict(value.named_parameters())
            if isinstance(value, torch.Tensor):
                held.add(value.data_ptr())
            elif isinstance(value, dict):
                waiting += value.values()
            elif isinstance(value, (list, tuple)):
                waiting += value
        self.keep(held)

    def saved(self, model, folder, state):
        self.keep({p.data_ptr() for p in model.parameters()})

    def keep(self, held):
        self.missing = {name: p for name, p in self.missing.items() if p.data_ptr() not in held}

    def ended(self):
        if self.missing:
            evidence = f"not in {self.folder}: {some(list(self.missing))}"
            yield finding("reload-differs/adapter", evidence, self.doctor.updates)
