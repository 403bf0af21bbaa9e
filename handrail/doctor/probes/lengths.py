"""Are the rows sorted by length, and is one batch far larger than the others?"""

from itertools import pairwise

from ..findings import finding

LOOKED_AT = 20  # updates
GROUP = 4  # updates whose mean length is compared with the next


class Lengths:
    """Follows the length of the rows."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.largest, self.jump = 0, None  # tokens in a batch; one far larger than all before

    def rows_read(self):
        if self.doctor.updates == LOOKED_AT and self.doctor.rows.texts:
            yield from self.growing()
        if self.doctor.updates <= 400 or self.doctor.updates % 10 == 0:
            yield from self.longer(self.doctor.rows.texts)

    def ended(self):
        yield from self.longer([])

    def growing(self):
        """Rows that start short and grow: time and memory are judged from the short ones."""
        known, means = self.doctor.rows.lengths, []
        for start in range(0, LOOKED_AT, GROUP):
            group = [n for update, n in known if start < update <= start + GROUP]
            means.append(sum(group) / max(1, len(group)))
        lengths = [n for _, n in known]
        # not by chance, little as they may grow
        ordered = len(lengths) >= 64 and len(set(lengths)) >= 6 and lengths == sorted(lengths)
        grow = all(a < b for a, b in pairwise(means)) and means[-1] > 1.5 * means[0]
        if ordered or grow:
            evidence = f"mean tokens per row, {GROUP} updates each: "
            evidence += ", ".join(f"{mean:.0f}" for mean in means)
            evidence += "; no row is shorter than the one before it" if ordered else ""
            yield finding("time-left-misjudged", evidence, self.doctor.updates)

    def longer(self, texts):
        """A batch far longer than all before it: where memory is short, this is where it ends."""
        size, update = max((rows.ids.numel() for rows in texts), default=0), self.doctor.updates
        # else a second stage, of longer rows, has started
        if self.jump and (size < 0.6 * self.jump[0] or not texts):
            tokens, before, when = self.jump
            evidence = f"{tokens:,} tokens at update {when:,}, at most {before:,} before"
            yield finding("out-of-memory-late/longer-batch", evidence, when)
        far = update > 10 and size > 2.5 * self.largest > 0
        self.jump = (size, self.largest, update) if far else None
        self.largest = max(self.largest, size)
