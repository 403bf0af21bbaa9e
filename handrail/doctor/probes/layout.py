"""Was a dimension moved by view or reshape, where only transpose or permute moves it?"""

import torch

from ..findings import finding
from ..losses import name_of, steps

VIEWS = ("View", "UnsafeView", "ReshapeAlias")


class Layout:
    """Looks at the shapes between the model's last layer and the loss, and at its inputs."""

    def __init__(self, doctor):
        self.doctor, self.looks, self.mixed = doctor, 0, 0

    def passed(self, seen):
        """Pictures (B, 3, H, W) whose numbers follow each other as those of (B, H, W, 3) do."""
        given = [value for value in seen.inputs.values() if is_whole(value) and value.ndim == 4]
        if not seen.grad or self.looks == 2 or not given or given[0].size(1) != 3:
            return
        self.looks += 1
        flat = given[0][:16].flatten(1)
        near, far = ((flat[:, by:] - flat[:, :-by]).abs().mean().item() for by in (1, 3))
        self.mixed += far < 0.5 * near
        if self.mixed == 2:
            evidence = (
                f"in {tuple(given[0].shape)} a number differs by {near:.2g} from the next one, but "
                f"only by {far:.2g} from the third one: in a picture it is the other way round"
            )
            yield finding("view-for-transpose/channels", evidence, self.doctor.now.number)

    def traced(self, node):
        for step in steps(node):
            if name_of(step) in VIEWS:
                before = tuple(step._saved_self_sym_sizes)
                after = tuple(step._input_metadata[0].shape)
                if moved(before, after):
                    evidence = f"between the model and the loss, {before} became {after} by a view"
                    yield finding("view-for-transpose", evidence, self.doctor.now.number)
                    return

    def entered(self, module, given, args):
        """A module inside the model is called, in the first updates: with a view of an input?"""
        for inner in filter(is_whole, args):
            for value in filter(is_whole, given):
                before, after = tuple(value.shape), tuple(inner.shape)
                same = value.data_ptr() == inner.data_ptr() and value.dtype == inner.dtype
                if same and swapped(before, after) and not in_patches(module, before, after):
                    evidence = (
                        f"the model was given {before}, and a {type(module).__name__} inside it "
                        f"read the same numbers in the same order as {after}"
                    )
                    number = self.doctor.now.number
                    yield finding("view-for-transpose/inside", evidence, number)
                    return


def is_whole(value):
    """Return True for a tensor of numbers (B, X, Y, ...) that lie one after the other."""
    if not isinstance(value, torch.Tensor) or value.layout is not torch.strided:
        return False
    return value.is_floating_point() and value.ndim in (3, 4) and value.is_contiguous()


def swapped(before, after):
    """Return True if two neighbouring dimensions, or the last and the first, changed places."""
    if len(before) != len(after) or before == after or moved(before, after):
        return moved(before, after)
    places = range(1, len(before) - 1)
    ways = [(*before[:i], before[i + 1], before[i], *before[i + 2 :]) for i in places]
    sizes = [old for old, new in zip(before, after, strict=True) if old != new]
    return min(sizes) > 1 and after in ways


def in_patches(module, before, after):
    """Return True if steps may be meant to be joined: (B, 16, 4) read as four patches of 16."""
    apart = [size for size, new in zip(before, after, strict=True) if size != new]
    conv = isinstance(module, torch.nn.modules.conv._ConvNd) and max(module.kernel_size) > 1
    return not conv and max(apart) % min(apart) == 0


def moved(before, after):
    """Return True if the last dimension of (B, ...) was put second, or the second one last."""
    if len(before) != len(after) or not 3 <= len(before) <= 4 or before == after:
        return False
    batch, *rest = before
    ways = ((batch, rest[-1], *rest[:-1]), (batch, *rest[1:], rest[0]))
    return min(rest) > 1 and after in ways
