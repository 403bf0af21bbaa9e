"""Does what the model says of one row depend on the other rows of its batch?"""

import torch

from ..extra_pass import MOVED, WITHOUT, run
from ..findings import finding
from ..hooks import bare
from ..token_rows import rows_of

AT = (2, 20)  # updates: a last layer of zeros hides everything at first
FEW = 3  # rows that are enough
COMPETE = ("moe", "expert", "router", "capacity")  # rows may compete for experts
ROUND = ("quant", "observer", "8bit", "bitsandbytes", "float8", "fp8", "transformer_engine")


class Neighbours:
    """Runs the model again on a batch in which one row was replaced, in evaluation mode."""

    def __init__(self, doctor):
        self.doctor = doctor

    def after_step(self, optimizer):
        number = self.doctor.updates
        passes = self.doctor.now.passes
        seen = next((seen for seen in passes if seen.losses), passes[0] if passes else None)
        if number not in AT or seen is None:
            return
        name, text = row_input(seen) if seen.losses else (series_input(seen), False)
        names = kinds_in(bare(seen.module))
        rounded = any(word in names for word in ROUND)  # by a scale that is of the whole batch
        if name is None or rounded or uses_batch_statistics(bare(seen.module)):
            return
        value = seen.inputs[name]
        other = next((row for row in value[1:] if not torch.equal(row, value[0])), None)
        if other is None:
            return
        changed = value.clone()
        changed[0] = other
        few = min(len(value), FEW)  # all of them, where the model takes no fewer
        few = few if outputs(seen, name, value, few) else len(value)
        before, after = (outputs(seen, name, given, few) for given in (value, changed))
        moved, rows = movement(before, after)
        if not rows or movement(before, outputs(seen, name, value, few))[1]:
            return  # a model that is random in evaluation mode tells nothing
        sure = text and not any(word in names for word in COMPETE)
        evidence = (
            f"the first of {few} rows was replaced, in evaluation mode, and the outputs of "
            f"{rows} of the others moved, by up to {moved:.2g}"
        )
        level = "certain" if sure else "warning"
        yield finding("rows-see-each-other", evidence, number, level)


def row_input(seen):
    """Return (the name of the input that has one row per answer, is it text?); None if unknown."""
    rows = rows_of(seen)
    if rows is not None and rows.ahead in (1, 2) and not rows.turned and not rows.documents:
        name = next(name for name, value in seen.inputs.items() if value is seen.ids)
        return (name, True) if len(seen.ids) > 2 else (None, False)
    targets = seen.losses[0].targets
    size = len(targets) if targets.ndim == 1 else 0
    whole = not targets.is_floating_point()
    if size < 3 or not whole or torch.equal(targets, torch.arange(size, device=targets.device)):
        return None, False  # of that last kind are losses that compare the rows of a batch
    given = [value for value in seen.inputs.values() if isinstance(value, torch.Tensor)]
    if any(value.is_sparse or value.shape[:2] == (size, size) for value in given):
        return None, False  # a graph: its nodes are meant to see each other
    for name, value in seen.inputs.items():
        if isinstance(value, torch.Tensor) and value.ndim > 1 and len(value) == size:
            if value.is_floating_point() or value is seen.ids:
                return name, False
    return None, False


def series_input(seen):
    """Return the name of an input (B, T, F) of a model with layers for (T, B, F), else None.

    Where no loss over classes was heard, it is one only if the model gives one answer per row.
    """
    if not any(getattr(m, "batch_first", None) is False for m in bare(seen.module).modules()):
        return None
    for name, value in seen.inputs.items():
        series = isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim == 3
        if series and len(value) > 2 and len(value) != value.size(1):
            return name
    return None


def kinds_in(model):
    """Return the names of all classes in a model, and of where they come from."""
    kinds = {type(module) for module in model.modules()}
    # MultiheadAttention's own output layer has "quantizable" in its name
    kinds -= {torch.nn.modules.linear.NonDynamicallyQuantizableLinear}
    return " ".join(f"{kind.__module__}.{kind.__name__}" for kind in kinds).lower()


def uses_batch_statistics(model):
    """Return True for a model that normalises over the batch in evaluation mode too."""
    kind = torch.nn.modules.batchnorm._BatchNorm
    return any(isinstance(m, kind) and m.running_mean is None for m in model.modules())


def outputs(seen, name, value, few):
    """Return what the model gives for the first `few` rows but one, as tensors (few - 1, ...)."""
    inputs = {key: given for key, given in seen.inputs.items() if key not in WITHOUT}
    inputs[name] = value
    for key, given in inputs.items():
        if isinstance(given, torch.Tensor) and given.ndim and len(given) == len(value):
            inputs[key] = given[:few]
    parts = [part for part in run(bare(seen.module), inputs) if part.is_floating_point()]
    parts = [part for part in parts if part.ndim and len(part) == few]
    return [part[1:].reshape(few - 1, -1) for part in parts]


def movement(before, after):
    """Return (by how much the rows moved at most, how many of them did)."""
    most, rows = 0.0, 0
    for old, new in zip(before, after, strict=False):
        if old.shape != new.shape:
            continue
        moved = (old - new).abs().amax(1)
        rows = max(rows, int((moved > MOVED * old.abs().max()).sum()))
        most = max(most, moved.max().item())
    return most, rows
