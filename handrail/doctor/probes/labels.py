"""Which tokens are learned? Looks at the first rows of the run as the loss sees them."""

import re
from collections import Counter
from dataclasses import dataclass
from itertools import takewhile

from ..findings import finding
from ..token_rows import OTHER, answers_of, rows_of

LOOKED_AT = 24  # updates
DECODED = 32  # rows in which questions and answers are looked for
USER = re.compile(
    r"<\|im_start\|>user|<\|user\|>|\[INST\]|<start_of_turn>user|"
    r"<\|start_header_id\|>user|#+ ?(Instruction|Question|Input)|"
    r"\b(User|Human|Question|Customer|Client|Patient|Student|Q):",
    re.I,
)
REPLY = re.compile(
    r"<\|im_start\|>assistant|<\|assistant\|>|\[/INST\]|<start_of_turn>model|"
    r"assistant<\|end_header_id\|>|#+ ?(Response|Answer|Output)|"
    r"\b(Assistant|Answer|Agent|Support|Doctor|Teacher|Bot|AI|A):",
    re.I,
)


@dataclass
class Row:
    """What one row reads and learns."""

    length: int  # without padding at its end
    size: int  # nor at its start
    trained: int  # tokens that are learned
    padding: int  # of these, how many are padding
    whole: bool  # nearly all tokens are learned
    shaped: bool  # of a length of its own, or learned in part: no window of an endless text
    twice: bool  # starts with two beginning-of-text tokens
    prompted: bool  # a question and an answer, all of it learned
    stops: int  # places where an answer ends
    stops_at_end: int  # of these, how many are before an end token
    end_learned: bool
    end_last: bool  # the last thing that is learned is an end token
    end_read: bool
    closed: bool  # the row ends with an end token
    open: int  # tokens read after the last answer: a question without one
    first: int  # token

    @property
    def partly(self):
        return self.trained > 0 and not self.whole


class Labels:
    """Counts, over the first updates, what is learned; speaks when it is the wrong thing."""

    def __init__(self, doctor):
        self.doctor, self.rows = doctor, []
        self.guessed = False  # is the padding's token only what fills the ends of rows?

    def after_step(self, optimizer):
        if self.doctor.now.age > LOOKED_AT:
            return
        for seen in self.doctor.now.passes:
            rows = answers_of(seen) or rows_of(seen)
            if rows is not None and rows.trained is not None and rows.ahead != OTHER:
                self.add(rows)
        if self.rows:
            for look in (self.nothing, self.padding, self.bos, self.prompts, self.lengths):
                yield from look()

    # --- counting ---

    def add(self, rows):
        tokenizer = self.doctor.tokenizer
        pad = getattr(tokenizer, "pad_token_id", None)
        pads = filling(rows) if pad is None else {pad}
        if rows.masked and not bool(rows.real.all()):
            pads = set()  # the mask tells
        self.guessed |= pad is None and bool(pads)
        lists = [part.tolist() for part in (rows.ids, rows.trained, rows.real, rows.targets)]
        lengths = [tail(row, keep, pads) for row, keep in zip(lists[0], lists[2], strict=True)]
        ends = self.doctor.ends()
        own = rows.documents or len(set(lengths)) > 1 or rows.masked and not bool(rows.real.all())
        for length, *parts in zip(lengths, *lists, strict=True):
            self.rows.append(self.row(length, *parts, ends, own))

    def row(self, length, ids, trained, keep, targets, ends, own):
        """Return what one row reads and learns."""
        learned = [i for i in range(1, len(ids)) if trained[i]]
        whole = len(learned) >= 0.9 * (length - 1)
        stops = [i for i in learned if i + 1 < len(ids) and keep[i + 1] and not trained[i + 1]]
        # the first padding may be the end token itself, where they are one token
        padding = [i for i in learned if i > length or i == length and ids[i] not in ends]
        values = [token for token in targets if token >= 0]  # the last may be a target only
        start, bos = first(keep), getattr(self.doctor.tokenizer, "bos_token_id", None)
        rest = ids[learned[-1] + 1 : length] if learned else []
        left = len(set(rest)) > 3 and rest[-1] not in ends  # what is all alike only fills
        return Row(
            length=length,
            size=length - start,
            trained=len(learned),
            padding=len(padding),
            whole=whole,
            shaped=own or bool(learned) and not whole,
            twice=bos is not None and ids[start : start + 2] == [bos, bos],
            prompted=bool(learned) and whole and self.is_prompted(ids[:length]),
            stops=len(stops),
            stops_at_end=sum(ids[i + 1] in ends for i in stops),
            end_learned=any(token in ends for token in values),
            end_last=any(token in ends for token in values[-2:]),
            end_read=any(token in ends for token in ids[: length + 1]),
            closed=ids[length - 1] in ends,
            open=len(rest) if left else 0,
            first=ids[start],
        )

    def is_prompted(self, ids):
        """Return True for one of the first rows that holds a question and an answer."""
        if self.doctor.tokenizer is None or len(self.rows) >= DECODED:
            return False
        text = self.doctor.tokenizer.decode(ids)
        return bool(USER.search(text) and REPLY.search(text))

    def piled(self):
        """Return (rows that were cut at one greatest length, all others), of those with a shape."""
        shaped = [row for row in self.rows if row.shaped]
        longest = max((row.size for row in shaped), default=0)
        piled = [row for row in shaped if row.size == longest]
        fits = sum(row.closed for row in piled) > 0.5 * len(piled)  # of one length, and not cut
        if fits or len(piled) < max(3, 0.05 * len(shaped)):
            return [], shaped
        return piled, [row for row in shaped if row.size < longest]

    # --- judging ---

    def nothing(self):
        n, empty = len(self.rows), sum(not row.trained for row in self.rows)
        cut = [row for row in self.piled()[0] if not row.trained]
        update = self.doctor.updates
        if empty == n and n >= 4:
            yield finding("nothing-trained", f"{n} rows, 0 tokens trained", update)
        elif len(cut) >= max(2, 0.05 * n):
            evidence = (
                f"{len(cut)} of {n} rows fill the whole length, {cut[0].size}, and train no token"
            )
            yield finding("answer-truncated/before-the-answer", evidence, update)
        elif empty >= max(2, 0.1 * n):
            yield finding("nothing-trained/many", f"{empty} of {n} rows", update)

    def padding(self):
        n, padded = len(self.rows), sum(row.padding > 0 for row in self.rows)
        padding = sum(row.padding for row in self.rows)
        if padded >= max(2, 0.1 * n) and padding > n:
            trained = sum(row.trained for row in self.rows)
            evidence = (
                f"{padding:,} of {trained:,} trained tokens are padding, in {padded} of {n} rows"
            )
            level = "warning" if self.guessed else ""
            yield finding("padding-in-loss", evidence, self.doctor.updates, level)

    def bos(self):
        n, twice = len(self.rows), sum(row.twice for row in self.rows)
        if twice >= max(2, 0.5 * n):
            mark = self.doctor.decode([self.doctor.tokenizer.bos_token_id] * 2)
            yield finding(
                "double-bos", f"{twice} of {n} rows start with {mark}", self.doctor.updates
            )

    def prompts(self):
        n, prompted = min(len(self.rows), DECODED), sum(row.prompted for row in self.rows)
        if self.doctor.knew() and prompted >= max(2, 0.5 * n):
            evidence = (
                f"in {prompted} of {n} rows with a question and an answer, every token is trained"
            )
            yield finding("prompt-trained", evidence, self.doctor.updates)

    def lengths(self):
        """Rows that were cut, and the ends of those that were not."""
        n, (cut, rest) = len(self.rows), self.piled()
        usual = max((row.open for row in rest), default=3)
        left_open = sum(row.open > max(3, usual) for row in cut)
        # windows of one long text start anywhere, conversations at their beginning
        alike = rest or len({row.first for row in cut}) == 1
        if alike and left_open >= max(4, 0.15 * n) and all(row.trained for row in cut):
            evidence = (
                f"{left_open} of {n} rows fill the whole length of {cut[0].size} and end with "
                "text that is no answer"
            )
            level = "certain" if rest else "warning"
            yield finding("answer-truncated/in-a-question", evidence, self.doctor.updates, level)
        if self.doctor.history.generated >= 2:
            return  # it learns from what it writes itself
        if n >= 16 and self.doctor.ends():
            yield from self.ends(cut, rest) if rest else ()
            yield from self.unended(cut, rest)

    def unended(self, cut, rest):
        n, ended = len(self.rows), sum(row.end_last for row in cut)
        partly = any(row.partly for row in self.rows)
        if not rest:  # all are cut: one answer each, for windows of packed text hold ends anywhere
            partly = ended > 1 and all(row.partly and not row.stops for row in cut)
        unended = sum(row.trained > 0 and not row.end_last for row in cut)
        if unended >= max(4, 0.15 * n) and partly:
            evidence = f"{unended} of {n} rows fill the whole length and have no end token"
            yield finding("answer-truncated", evidence, self.doctor.updates)

    def ends(self, cut, rest):
        doctor = self.doctor
        read, learned = (sum(row.end_read for row in rest), sum(row.end_learned for row in rest))
        partly = any(row.partly for row in self.rows)
        untrained = read >= 0.5 * len(rest) and not learned and any(r.trained for r in self.rows)
        stops = sum(row.stops for row in self.rows)
        at_end = sum(row.stops_at_end for row in self.rows)
        fills = getattr(doctor.tokenizer, "pad_token_id", None) in doctor.ends()
        marks = doctor.decode(sorted(doctor.ends()))
        if untrained and (fills or at_end >= 0.5 * stops > 0):
            evidence = (
                f"{read} of {len(rest)} rows that were not cut hold an end token ({marks}); it is "
                "trained in none"
            )
            yield finding("eos-masked", evidence, doctor.updates)
        elif untrained or read == 0 and (partly or len(rest) >= 16):
            evidence = (
                f"{len(rest)} rows that were not cut; in none is any of {marks} learned, or right "
                "after what is learned"
            )
            yield finding("eos-missing", evidence, doctor.updates)


def filling(rows):
    """Return the id that fills rows up, as a set, where no tokenizer tells.

    A quarter of the rows end in runs of it, of several lengths, and it is nowhere else.
    """
    lists = rows.ids.tolist()
    token = Counter(row[-1] for row in lists).most_common(1)[0][0]
    runs = [len(list(takewhile(lambda other: other == token, reversed(row)))) for row in lists]
    elsewhere = any(row.count(token) > run for row, run in zip(lists, runs, strict=True))
    often = sum(run >= 3 for run in runs) >= 0.25 * len(runs)
    fills = often and len(set(runs)) > 1 and not elsewhere and not rows.documents
    return {token} if fills else set()


def tail(row, keep, pads):
    """Return the length of a row without the padding at its end: by the mask, else by its token."""
    length = len(keep) - next((i for i, real in enumerate(reversed(keep)) if real), 0)
    if length < len(row) or not pads:
        return length
    while length > 1 and row[length - 1] in pads:
        length -= 1
    return length


def first(keep):
    """Return the place of the first real token."""
    return next((i for i, real in enumerate(keep) if real), 0)
