"""Do two shapes that do not match make all pairs on the way to the loss?"""

from ..findings import finding
from ..losses import FORMS, name_of, steps


class Broadcast:
    """Follows the operations between the model's last layer and the loss, in the first updates."""

    def __init__(self, doctor):
        self.doctor, self.paired = doctor, 0

    def traced(self, node):
        """(B, 1) against (B,) makes all pairs: every row is compared with every answer."""
        rows = max(map(all_pairs, steps(node)))
        self.paired += rows > 0
        if rows and self.paired == 3:
            evidence = f"on the way to the loss, ({rows}, 1) and ({rows},) became ({rows}, {rows})"
            yield finding("loss-broadcast", evidence, self.doctor.updates)


def all_pairs(step):
    """Return B if an operation made (B, B) of (B, 1) and (B,), one of them given; else 0."""
    learned = [inner for inner, _ in step.next_functions if inner is not None]
    name = name_of(step)
    if len(learned) == 2 and name == "Sub":
        return by_chance(step, learned)
    if len(learned) != 1 or not name.startswith(("Sub", "Mul")) and "Loss" not in name:
        return 0
    wide = type(learned[0]).__name__.startswith("Expand")
    made = shape_of(learned[0] if wide else step)
    source = shape_of(learned[0].next_functions[0][0] if wide else learned[0])
    given = getattr(step, "_saved_other", None)  # of a product only
    rows = made[0] if made else 0
    if rows < 2 or made != (rows, rows) or source not in ((rows,), (rows, 1)):
        return 0
    # (B, B) that was given as such is no mistake
    return rows if given is None or given.numel() == rows else 0


def by_chance(step, learned):
    """Return B for (B, 1) less (B,), both learned; 0 if the column was made so, as x[:, None]."""
    column, row = sorted(learned, key=lambda node: -len(shape_of(node)))
    rows = shape_of(row)[0] if len(shape_of(row)) == 1 else 0
    natural = shape_of(column) == (rows, 1) and name_of(column) not in FORMS
    return rows if rows > 1 and natural and shape_of(step) == (rows, rows) else 0


def shape_of(node):
    return tuple(node._input_metadata[0].shape)
