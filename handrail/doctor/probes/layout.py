"""Was a dimension moved by view or reshape, where only transpose or permute moves it?"""

from ..findings import finding
from ..losses import name_of, steps

VIEWS = ("View", "UnsafeView", "ReshapeAlias")


class Layout:
    """Looks at the shapes between the model's last layer and the loss."""

    def __init__(self, doctor):
        self.doctor = doctor

    def traced(self, node):
        for step in steps(node):
            if name_of(step) in VIEWS:
                before = tuple(step._saved_self_sym_sizes)
                after = tuple(step._input_metadata[0].shape)
                if moved(before, after):
                    evidence = f"between the model and the loss, {before} became {after} by a view"
                    yield finding("view-for-transpose", evidence, self.doctor.now.number)
                    return


def moved(before, after):
    """Return True if the last dimension of (B, ...) was put second, or the second one last."""
    if len(before) != len(after) or not 3 <= len(before) <= 4 or before == after:
        return False
    batch, *rest = before
    ways = ((batch, rest[-1], *rest[:-1]), (batch, *rest[1:], rest[0]))
    return min(rest) > 1 and after in ways
