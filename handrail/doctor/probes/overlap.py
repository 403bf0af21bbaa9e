"""Was trained on what is evaluated?"""

from statistics import median

from ..findings import finding
from ..rows_read import EXACT, keys_of, says_something, texts_of


class Overlap:
    """Looks, in each evaluation, for rows that were trained on before it."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.shares = {}  # id(model): for each pass and row of an evaluation, how much is known
        self.suspect, self.honest = None, False  # an evaluation on train alone; one on other rows?

    def after_step(self, optimizer):
        doctor, now = self.doctor, self.doctor.now
        if doctor.steppers[id(optimizer)] == now.number and len(doctor.steppers) > 1:
            self.shares = {}  # another training: what was read before it prepared it
            return
        if now.evals:
            texts = [rows for rows in map(texts_of, now.passes) if rows is not None]
            current = {tuple(row) for rows in texts for row in rows.lists()}
            current |= {key for seen in now.passes for key in keys_of(seen)}
            self.examine(current)
        yield from self.judge()

    def ended(self):
        self.examine(set())
        yield from self.judge()
        if self.suspect and not self.honest:
            yield self.suspect

    def examine(self, current):
        """Note what is known of each pass of an evaluation.

        A pass over rows of this very update is a reference's, or chooses among them.
        """
        known = self.doctor.rows
        for seen in self.doctor.now.evals:
            if not seen.losses and "labels" not in seen.inputs:
                continue
            shares = self.shares.setdefault(id(seen.module), [])
            others, rows = keys_of(seen), texts_of(seen)
            lists = [row for row in rows.lists() if says_something(row)] if rows else []
            if others and current.isdisjoint(others):
                shares.append([EXACT * (key in known.other) for key in others])
            elif lists and current.isdisjoint(map(tuple, lists)):
                shares.append([known.share(row) for row in lists])

    def judge(self):
        evaluations, self.shares = self.shares.values(), {}
        for passes in evaluations:
            yield from self.judged(passes)

    def judged(self, passes):
        """Judge one evaluation: for each of its passes, how much of each row is known.

        One that is half on train and half on val, on purpose, has a part without any known row.
        """
        counts, sizes = [known_in(part) for part in passes], list(map(len, passes))
        half = len(passes) // 2
        parts = [counts]
        if half > 1:
            parts = [counts[:half], counts[half:]]
        elif half:
            parts = [[count] for count in counts]
        known, rows = sum(counts), sum(sizes)
        self.honest |= known < 0.5 * rows
        if known > 0.95 * rows:  # meant so, as training accuracy, if another evaluation is not
            self.suspect = self.suspect or self.overlap(known, rows, few=rows < 8)
            return
        if self.train_then_val(counts, sizes) or self.train_then_val(counts[::-1], sizes[::-1]):
            return
        if known >= 3 and known > 0.01 * rows and all(map(sum, parts)):
            few = known < max(8, 0.05 * rows) or known < 1.5 * self.doctor.rows.by_nature() * rows
            shares = [count / size for count, size in zip(counts, sizes, strict=True)]
            if len(shares) > 3 and all(share > 0.95 or share == 0 for share in shares):
                evidence = f"{known} of {rows} rows of an evaluation, in passes of their own"
                yield finding("train-val-overlap/in-part", evidence, self.doctor.updates)
            else:
                yield self.overlap(known, rows, few)

    def overlap(self, known, rows, few):
        """Return the finding; `few`: of rows that repeat each other anyway."""
        evidence = f"{known} of {rows} rows of an evaluation, exactly or nearly"
        name = "train-val-overlap/the-same-data" if known >= 0.95 * rows else "train-val-overlap"
        return finding(name, evidence, self.doctor.updates, "warning" if few else "certain")

    def train_then_val(self, counts, sizes):
        """Return True for an evaluation of all that is trained on, then of passes without it."""
        first = next((i for i in range(len(counts)) if not sum(counts[i:])), len(counts))
        before, after = sum(sizes[:first]), sum(sizes[first:])
        read = self.doctor.rows
        whole = max(before, min(read.total, len(read.rows)))
        return after > 0 and sum(counts[:first]) > 0.8 * whole


def known_in(shares):
    """Return how many rows of a pass count as trained on.

    Nearly the same counts too, except where the usual row is made of known phrases as well.
    """
    usual = median([share for share in shares if share < EXACT] or [0])
    limit = 1 if 0.4 < usual < 0.95 else 0.8
    return sum(share > limit for share in shares)
