"""The rows that a run has trained on, and the pieces of text in them."""

import math
from collections import Counter
from statistics import mean, median

import torch

from .hooks import bare
from .token_rows import rows_of

WINDOW = 16  # tokens in a row that count as the same text
TEXT = 8  # tokens from which on a row counts as text: columns of a table may be numbers too
EXACT = 2  # a row that was trained on as it is
COMMON = 3  # one that came far more often than the usual row: few such rows are possible
FIRST = 2000  # rows of which is known whether they came again


class RowsRead:
    """Counts rows, and some pieces of them; starts again with another model."""

    def __init__(self):
        self.sequence, self.lengths = [], []  # rows in their order; (update, tokens in the row)
        self.again = []  # of the first rows: had each come before?
        self.texts = []  # of the last update, as token_rows.Rows
        self.evaluated = self.honest = False  # was there an evaluation; one on other rows?
        self.start(None)

    def start(self, model):
        self.model, self.rows, self.total = model, Counter(), 0
        self.other = set()  # rows of other tasks than the next token
        self.counted = self.times = 0  # rows when it was worked out how often the usual one came
        self.pieces, self.learned = Counter(), Counter()  # of all tokens; of those that are learned
        self.width, self.long = 0, Counter()  # pieces of three quarters of a row
        self.usual = []  # which part of a row's long pieces was known when it was trained on
        self.looked = self.looked_closely = 0  # rows whose pieces, whose learned pieces are counted

    def add(self, update, model):
        """Remember the rows of an Update; later on only of every tenth."""
        if update.number > 400 and update.number % 10:
            self.texts = []
            return
        if model is not self.model:  # of another fold, for example: it has read nothing yet
            self.start(model)
        self.texts = [rows for rows in map(texts_of, update.passes) if rows is not None]
        others = {key for seen in update.passes for key in keys_of(seen)}
        for key in others:
            self.note_again(key in self.other)
        if len(self.other) < 100_000:
            self.other |= others
        close = update.number <= 20 or update.number % 10 == 0  # pieces cost time
        for rows in self.texts:
            self.read(rows, update.number, close)

    def read(self, rows, number, close):
        lists = rows.lists()
        self.width = self.width or max(WINDOW, int(0.75 * median(map(len, lists))))
        for row in lists:
            key = hash(tuple(row))
            if len(self.sequence) < 100_000:
                self.sequence.append(key)
            self.note_again(key in self.rows)
            self.rows[key] += 1
            self.total += 1
            if number <= 20:
                self.lengths.append((number, len(row)))
            if close and len(self.pieces) < 500_000:
                self.looked += 1
                self.pieces.update(set(windows(row)))
                self.usual = [*self.usual[-63:], *self.known_long([row])]
                self.long.update(set(windows(row, width=self.width)))
        if close:
            self.looked_closely += len(rows.ids)
        if close and rows.trained is not None and len(self.learned) < 500_000:
            for row, trained in zip(rows.ids.tolist(), rows.trained.tolist(), strict=True):
                self.learned.update(set(windows(row, trained)))

    def note_again(self, known):
        if len(self.again) < FIRST:
            self.again.append(known)

    def share(self, row):
        """Return which part of a row's pieces was trained on; EXACT or COMMON if all of it was."""
        if number := self.rows.get(hash(tuple(row))):
            return COMMON if number > 5 * self.usually() else EXACT
        pieces = set(windows(row))
        return sum(piece in self.pieces for piece in pieces) / max(1, len(pieces))

    def usually(self):
        """Return how often the usual row was trained on."""
        if self.counted != self.total:  # worked out once for an evaluation
            self.counted, self.times = self.total, median(self.rows.values())
        return self.times

    def known_long(self, rows):
        """Return which part of the long pieces of each row that has some was trained on."""
        pieces = [set(windows(row, width=self.width)) for row in rows]
        return [sum(piece in self.long for piece in part) / len(part) for part in pieces if part]

    def of_phrases(self):
        """Return True if what is read is a few phrases, put together in ever other ways."""
        return len(self.long) > 1.5 * len(self.pieces)

    def only_phrases(self, rows):
        """Return True if rows share phrases with those that were trained on, and no more."""
        long = self.known_long(rows)
        return self.of_phrases() and bool(long) and mean(long) < 0.75 * mean(self.usual)

    def by_nature(self):
        """Return which part of new rows would be known, because few rows are possible at all.

        Estimated from how often the rows of the first pass over the data repeat each other.
        """
        starts = range(32, len(self.again))
        second_pass = (i for i in starts if sum(self.again[i - 32 : i]) > 16)
        end = next(second_pass, len(self.again) + 32) - 32
        repeats = sum(self.again[:end])
        distinct = max(len(self.rows), len(self.other))
        return 1 - math.exp(-2 * repeats * distinct / end**2) if repeats > 1 else 0


def texts_of(seen):
    """Return the Rows of a Pass that learns, or is asked for, the next token; None of others."""
    if seen.ids is None or seen.ids.size(1) < TEXT or read_with(seen):
        return None
    rows = rows_of(seen)
    told = rows is not None and rows.ahead in (0, 1, 2)
    # its loss is of its own kind, or out of sight
    writes = rows is not None and rows.ahead is None and hasattr(bare(seen.module), "generate")
    return rows if told or writes else None


def keys_of(seen):
    """Return a number for each row of another task than the next token (which class is it?)."""
    if seen.ids is None or seen.ids.size(1) < WINDOW or texts_of(seen) is not None:
        return []
    rows = rows_of(seen)
    if rows is None or rows.turned:
        return []
    more = [value.flatten(1).float().sum(1).tolist() for value in read_with(seen)]
    sums = zip(*more, strict=True) if more else [()] * len(rows.ids)
    return [
        hash((*row, *(round(total, 4) for total in totals)))
        for row, totals in zip(rows.lists(), sums, strict=True)
        if len(set(row)) > WINDOW // 2
    ]


def read_with(seen):
    """Return what is read with the tokens of each row: a picture, a sound."""
    return [
        value
        for name, value in seen.inputs.items()
        if "mask" not in name
        and isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.ndim > 1
        and len(value) == len(seen.ids)
    ]


def says_something(row):
    """Return False for a row of little but one thing: a line of ==== is in every text."""
    pieces = list(zip(row, row[1:], row[2:], row[3:], strict=False))
    return len(set(pieces)) > len(pieces) / 3


def windows(row, trained=None, width=WINDOW):
    """Yield hashes of some windows of a row (of learned tokens only).

    Which ones depends on their text alone, so that copies at other places meet.
    """
    for i in range(0, len(row) - width + 1):
        if (row[i] * 2654435761 + row[i + 1]) % 4:
            continue
        window = row[i : i + width]
        learned = trained is None or all(trained[i : i + width])
        if learned and len(set(window)) > WINDOW // 2:  # no padding
            yield hash(tuple(window))
