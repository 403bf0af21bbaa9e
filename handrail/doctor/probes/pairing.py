"""Do the targets of a row belong to another row? Then inputs and targets were shuffled apart."""

from ..findings import finding
from ..token_rows import OTHER, rows_of

LOOKED_AT = 60  # updates
ENOUGH = 4  # targets that were found in other rows
DISTINCT = 6  # different tokens in a row that can be told from others
START = 8  # tokens; targets that begin with some of their own row are only further ahead
KNOWN = ("labels", "targets", "target", "y", "position_ids", "attention_mask")


class Pairing:
    """Remembers rows, and looks for them in the targets of others: there, shifted by one."""

    def __init__(self, doctor):
        self.doctor, self.read, self.asked, self.apart, self.rows = doctor, set(), set(), 0, 0

    def after_step(self, optimizer):
        if self.doctor.now.age > LOOKED_AT or self.apart >= ENOUGH:
            return
        for seen in self.doctor.now.passes:
            rows = rows_of(seen)
            if rows is not None and rows.ahead == OTHER and not reads_more(seen):
                self.compare(rows)
        if self.apart >= ENOUGH:
            evidence = (
                f"none of {self.rows:,} rows has its own next tokens as targets; those of "
                f"{self.apart} of them are the next tokens of another row"
            )
            yield finding("inputs-and-targets-apart", evidence, self.doctor.updates)

    def compare(self, rows):
        if rows.turned or rows.targets.shape != rows.ids.shape:
            return
        for ids, targets in zip(rows.ids.tolist(), rows.targets.tolist(), strict=True):
            if min(targets) < 0 or len(set(ids)) < DISTINCT or within(targets[:START], ids):
                continue
            read, asked = hash(tuple(ids[1:])), hash(tuple(targets[:-1]))
            self.rows += 1
            self.read.add(read)
            self.asked.add(asked)
            self.apart += (asked in self.read) or (read in self.asked)


def within(part, row):
    """Return True if a list occurs in another one."""
    return any(row[i : i + len(part)] == part for i in range(len(row) - len(part) + 1))


def reads_more(seen):
    """Return True if the model reads other rows of tokens as well, as one that translates does."""
    for name, value in seen.inputs.items():
        whole = hasattr(value, "ndim") and value.ndim == 2 and not value.is_floating_point()
        if whole and value is not seen.ids and name not in KNOWN and value.max() > 1:
            return True
    return False
