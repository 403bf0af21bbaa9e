"""Are the tokens to be predicted masked in the input, as for a model that reads both ways?"""

from collections import Counter

from ..extra_pass import moved_by_future
from ..findings import finding
from ..token_rows import OTHER, rows_of

LOOKED_AT = 12  # updates
ENOUGH = 40  # targets that were looked at
MASKED = 0.6  # the share of targets whose own place holds the mask: a collator masks 80 %


class MaskedInputs:
    """Looks at the token after each place that is trained: without a mask it is the target."""

    def __init__(self, doctor):
        self.doctor, self.done = doctor, False
        self.there, self.elsewhere = Counter(), Counter()  # tokens at targets, and at other places
        self.rows = self.rows_asked = 0

    def after_step(self, optimizer):
        if self.done or self.doctor.now.age > LOOKED_AT:
            return
        for seen in self.doctor.now.passes:
            rows = rows_of(seen)
            if rows is not None and rows.targets is not None and rows.ahead in (OTHER, None):
                self.add(rows)
                if self.masked():
                    yield from self.judge(seen, rows)
                    return

    def add(self, rows):
        width = min(rows.ids.size(1) - 1, rows.targets.size(1))
        targets, there = rows.targets[:, :width], rows.ids[:, 1 : width + 1]
        asked = targets >= 0
        self.there.update(there[asked & (there != targets)].tolist())
        self.there.update([None] * int((asked & (there == targets)).sum()))
        self.elsewhere.update(there[~asked & rows.real[:, 1 : width + 1]].tolist())
        self.rows += len(targets)
        self.rows_asked += int((asked.sum(1) > 1).sum())

    def masked(self):
        """Return True if one token, rare elsewhere, hides most targets, and rows have several."""
        asked, rest = self.there.total(), self.elsewhere.total()
        if asked < ENOUGH or asked > rest or self.rows_asked < 0.5 * self.rows:
            return False
        token, count = self.there.most_common(1)[0]
        return token is not None and count > MASKED * asked and self.elsewhere[token] < 0.02 * count

    def judge(self, seen, rows):
        self.done = True
        moved, _ = moved_by_future(seen, rows)
        if moved:  # it reads both ways, and was trained to predict one place later
            return
        token, count = self.there.most_common(1)[0]
        evidence = (
            f"{self.there.total()} of {self.there.total() + self.elsewhere.total()} places are "
            f"trained; in {count} of them the token to be predicted is hidden behind "
            f"{self.doctor.decode([token])} in the input"
        )
        yield finding("masked-labels-on-causal-model", evidence, self.doctor.updates)
