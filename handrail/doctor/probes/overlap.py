"""Was trained on what is evaluated?"""

import math
from statistics import median

from ..findings import finding
from ..rows_read import COMMON, EXACT, WINDOW, keys_of, says_something, texts_of

SOME = 0.15  # of rows that are new, as many may well be made of known phrases
FEW = 0.05  # as many of long rows, and as many may be known as a whole
LONG = 80  # tokens in a row
NEAR = 0.8  # a row counts as known if more of its pieces are


class Overlap:
    """Looks, in each evaluation, for rows that were trained on before it."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.shares = {}  # id(model): for each pass and row of an evaluation, how much is known
        self.suspect = None  # an evaluation on train alone
        self.some = SOME  # for rows as long as those of the last evaluation

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
        if self.suspect and not self.doctor.rows.honest:
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
            lists = [row for row in lists if len(row) >= WINDOW]  # fewer are in every text
            if others and current.isdisjoint(others):
                shares.append([EXACT * (key in known.other) for key in others])
            elif lists and current.isdisjoint(map(tuple, lists)):
                found = [known.share(row) for row in lists]
                near = [
                    row for row, share in zip(lists, found, strict=True) if NEAR < share < EXACT
                ]
                if known.only_phrases(near):
                    found = [share * (share == EXACT) for share in found]
                shares.append(found)
                self.some = FEW if median(map(len, lists)) >= LONG else SOME

    def judge(self):
        evaluations, self.shares = self.shares.values(), {}
        self.doctor.rows.evaluated |= bool(evaluations)
        for passes in evaluations:
            yield from self.judged(passes)

    def judged(self, passes):
        """Judge one evaluation: for each of its passes, how much of each row is known."""
        read = self.doctor.rows
        counts, sizes = [known_in(part) for part in passes], list(map(len, passes))
        known, rows = sum(counts), sum(sizes)
        if not rows:
            read.honest = True  # they are too short to tell
            return
        exact = [sum(share == EXACT for share in part) for part in passes]
        if sum(share == COMMON for part in passes for share in part) > sum(exact):
            return  # new rows would be known as well
        apart = two_kinds(counts, sizes)  # it measures train, then val: normal
        read.honest |= apart or known < 0.5 * rows
        nearly = sum(exact) < 0.5 * known
        if known > 0.95 * rows:  # meant so, as training accuracy, if another evaluation is not
            whole = rows < 8 or rows >= len(read.rows) + len(read.other)
            whole |= nearly  # certain is only what is there as it is
            if self.suspect is None:
                self.suspect = self.overlap(known, rows, few=whole)
                read.honest = False  # the rows of those before may only not have been read yet
            return
        if self.train_then_val(counts, sizes) or self.train_then_val(counts[::-1], sizes[::-1]):
            return
        half = len(passes) // 2
        if apart or half and not (sum(counts[:half]) and sum(counts[half:])):
            return
        natural = max(self.some, 1.5 * read.by_nature()) * rows
        parts = [exact[:half], exact[half:]] if half else [exact]
        chance = max(FEW, 1.5 * read.by_nature()) * rows
        copied = sum(exact) >= max(3, chance) and all(map(sum, parts))
        if known < max(3, natural) and not copied:
            return
        shares = [count / size for count, size in zip(counts, sizes, strict=True)]
        if len(shares) > 3 and not nearly and all(s > 0.95 or s == 0 for s in shares):
            evidence = f"{known} of {rows} rows of an evaluation, in passes of their own"
            yield finding("train-val-overlap/in-part", evidence, self.doctor.updates)
        else:
            few = known < max(8, natural) or nearly  # certain: as they are
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


def two_kinds(known, rows):
    """Return True if one half of an evaluation is far less known than the other.

    known, rows: of each pass, the rows that were trained on, and all. The halves may come one
    after the other, or in turn.
    """
    half = max(1, len(rows) // 2)
    for one, other in ((slice(half), slice(-half, None)), (slice(0, None, 2), slice(1, None, 2))):
        sizes = sum(rows[one]), sum(rows[other])
        if len(rows) < 2 or not all(sizes):
            continue
        low, high = sorted((sum(known[one]) / sizes[0], sum(known[other]) / sizes[1]))
        both = (sum(known[one]) + sum(known[other])) / sum(sizes)
        chance = math.sqrt(both * (1 - both) * (1 / sizes[0] + 1 / sizes[1]))
        if low < 0.5 * high and high - low > 2 * chance:
            return True
    return False


def known_in(shares):
    """Return how many rows of a pass count as trained on.

    Nearly the same counts too, except where the usual row is made of known phrases as well.
    """
    usual = median([share for share in shares if share < EXACT] or [0])
    limit = 1 if 0.4 < usual < 0.95 else NEAR
    return sum(share > limit for share in shares)
