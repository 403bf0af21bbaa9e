"""How often do the same rows, or the same pieces of text, come again?"""

from statistics import median

from ..findings import finding
from ..rows_read import WINDOW, windows

EPOCHS = 20  # as many passes over the same rows are hardly ever intended
FEW = 0.3  # of the rows up to the last new one; if more are known, rows are drawn at random
TOY = 16  # fewer rows are a test whether they can be learned at all
PLACES = ("step", "iter", "iter_num", "global_step", "update", "updates")  # of a checkpoint


class Repeats:
    """Looks at the rows that were trained on, after each update."""

    def __init__(self, doctor):
        self.doctor, self.resumed = doctor, None  # (rows read before it, update of a checkpoint)
        self.many = None  # the finding of too many epochs

    def loaded(self, file, found):
        """A checkpoint that is read in the middle: the rows that come next must be new ones."""
        places = []
        if isinstance(found, dict):
            places = [found[name] for name in PLACES if isinstance(found.get(name), int)]
        read = len(self.doctor.rows.sequence)
        if read and max(places, default=0) > 0:
            self.resumed = (read, max(places))

    def rows_read(self):
        rows, update = self.doctor.rows, self.doctor.updates
        if rows.texts:
            yield from self.resumed_at_the_start(rows.sequence)
            yield from self.one_text(rows, update)
            self.many = self.many or self.epochs(rows, update)
        short = max((size for _, size in rows.lengths), default=0) < WINDOW  # few are possible
        if self.many and not rows.evaluated and not short:
            yield self.many

    def ended(self):
        if self.many and not self.doctor.rows.honest:  # else it watches how far it can repeat
            yield self.many

    def resumed_at_the_start(self, sequence):
        """After a checkpoint was read: are the next rows those with which the run started?"""
        if self.resumed is None or len(sequence) < self.resumed[0] + 24:
            return
        (place, step), self.resumed = self.resumed, None
        pairs = zip(sequence[place : place + 24], sequence[:24], strict=True)
        again = sum(a == b for a, b in pairs)
        if again > 20:
            evidence = (
                f"a checkpoint of update {step:,} was read, and {again} of the next 24 rows are "
                "those of the first updates"
            )
            yield finding("resume-repeats-samples", evidence, self.doctor.updates)

    def one_text(self, rows, update):
        distinct, most = len(rows.rows), max(rows.rows.values())
        if rows.total < 64:
            return
        if distinct >= 8 and most > 0.2 * rows.total and most > 4 * rows.total / distinct:
            evidence = f"{most} of {rows.total} rows are the same row"
            yield finding("one-document-dominates", evidence, update)
        elif update % 5 == 0 and len(rows.learned) >= 64:
            share = max(common_share(rows, batch) for batch in rows.texts)
            if share > 0.25:
                evidence = (
                    f"{share:.0%} of the rows of this update consist mostly of passages that came "
                    "again and again before"
                )
                yield finding("one-document-dominates/passages", evidence, update)

    def epochs(self, rows, update):
        distinct = len(rows.rows)
        passes = rows.total / distinct
        if distinct >= TOY and passes >= EPOCHS and rows.total > 100:
            if few_are_possible(rows.again):
                return None
            evidence = f"{rows.total:,} rows in {update:,} updates, {distinct:,} of them different"
            return finding("too-many-epochs", evidence, update, rows=distinct, passes=passes)
        elif update % 50 == 0 and len(rows.pieces) >= 64 and not rows.of_phrases():
            # windows that start anywhere are never the same, but their pieces are
            seldom = sorted(rows.pieces.values())[len(rows.pieces) // 10]
            passes = seldom * rows.total / max(1, rows.looked)
            if seldom >= 4 and passes >= EPOCHS:
                evidence = (
                    f"nine of ten pieces of {WINDOW} tokens came at least {seldom} times in the "
                    f"{rows.looked:,} of {rows.total:,} rows that were counted"
                )
                return finding("too-many-epochs/text", evidence, update, passes=passes)


def few_are_possible(again):
    """Return True if rows came again while there were new ones: they are drawn from a few.

    A data set that is read once and again has its new rows first.
    """
    first = again[: len(again) - again[::-1].index(False)]
    return sum(first) > FEW * len(first)


def common_share(rows, batch):
    """Return the share of a batch's rows that are mostly pieces that come again and again.

    More often than a frame that all rows have.
    """
    usual = median(rows.learned.values())
    limit = max(0.02 * rows.looked_closely, 10 * usual, 8)
    often = {piece for piece, count in rows.learned.items() if count > limit}
    parts = [set(windows(row)) for row in batch.lists()]
    return sum(len(part & often) > 0.7 * len(part) > 0 for part in parts) / max(1, len(parts))
