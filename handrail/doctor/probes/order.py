"""Probe F: the schedule of the rate, and the order of the rows: arithmetic that nobody does by hand."""

import json
import math
import os
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path
from statistics import median

import torch

from ..findings import Finding
from ..hooks import bare, grouped
from ..token_rows import rows_of

WINDOW = 16  # tokens in a row that count as the same text
TEXT = (
    8  # tokens in a row from which on it is taken for a text: columns of a table may be numbers too
)
EXACT = 2  # a row that was trained on as it is
FIRST = 2000  # rows of which is known whether they came again
EPOCHS = 20  # as many passes over the same rows are hardly ever meant


class Order:
    """Counts schedulers, rows and the pieces of text in them."""

    def __init__(self, doctor):
        self.doctor, self.calls, self.rates, self.made = doctor, [], [], 0
        self.rows, self.total, self.pieces, self.learned, self.lengths, self.shared = (
            Counter(),
            0,
            Counter(),
            Counter(),
            [],
            [],
        )
        self.planned = self.model = None
        self.read_closely = self.looked = (
            0  # rows whose learned pieces, and whose pieces, were counted
        )
        self.other = set()  # rows of other tasks
        self.suspect, self.honest = (
            None,
            False,
        )  # an evaluation on trained rows alone; was there one on others?
        self.largest, self.jump = 0, None  # tokens in a batch; one far larger than all before
        self.again = []  # of the first rows: had each come before?
        self.sequence, self.resumed = (
            [],
            None,
        )  # rows in the order in which they came; where a checkpoint was read
        own = Path(
            tempfile.gettempdir(),
            f"handrail-rows-{os.getppid()}-{os.environ.get('MASTER_PORT', 0)}",
        )
        self.meet = Path(
            os.environ.get("HANDRAIL_WATCH", own)
        )  # where the processes of one machine find each other's rows
        self.shares = {}  # of the evaluation under way: for each model, pass and row, which part of it was trained on

    def scheduled(self, scheduler):
        self.made += bool(getattr(scheduler, "_is_initial", False))
        self.kind = type(scheduler).__name__

    def after_step(self, optimizer):
        doctor, update = self.doctor, self.doctor.updates
        self.calls.append(max(doctor.now.scheduled.values(), default=0))
        self.rates.append(max(doctor.now.rates, default=0.0))
        if (
            doctor.steppers[id(optimizer)] == update and len(doctor.steppers) > 1
        ):  # another training begins: what was read before it prepared it, as a reference does
            doctor.now.evals, self.shares = [], {}
        yield from self.schedule(update)
        if update > 400 and update % 10:
            return
        if (
            doctor.trained is not self.model
        ):  # a new one, of another fold for example, has read nothing yet
            (
                self.model,
                self.rows,
                self.pieces,
                self.learned,
                self.total,
                self.read_closely,
                self.looked,
            ) = doctor.trained, Counter(), Counter(), Counter(), 0, 0, 0
        batches = [rows for rows in map(texts_of, doctor.now.passes) if rows is not None]
        others = {key for seen in doctor.now.passes for key in exactly(seen)}
        self.examine({tuple(row) for rows in batches for row in rows.lists()} | others)
        for key in others:
            self.again += [key in self.other] * (len(self.again) < FIRST)
        if len(self.other) < 100_000:
            self.other |= others
        yield from self.examined()
        for rows in batches:
            yield from self.read(rows, update)
        yield from self.longer(batches, update)
        yield from self.ranks(update)

    def schedule(self, update):
        # the call that belongs to update n may come before or after update n's step; so the middle is looked at
        recent = self.calls[-8:-1]
        if update >= 9 and min(recent) >= 2 and self.made:
            yield Finding(
                "scheduler-miscounted",
                "certain",
                f"The learning rate's schedule moves {min(recent)} steps with every update: it ends after 1/{min(recent)} of the run.",
                f"scheduler.step() was called {min(recent)} times in each of the last updates; the rate is {self.rates[-1]:.3g} now",
                [
                    (
                        "scheduler.step() stands inside the loop over batches of one update, or is called for every process",
                        0.9,
                    )
                ],
                "one scheduler.step() after each optimizer.step()",
                update,
            )
        if update >= 6 and not any(self.rates[-5:]) and any(self.rates):
            yield Finding(
                "scheduler-miscounted",
                "certain",
                "The learning rate has reached 0, and the run continues: nothing is learned any more.",
                f"it is 0 since update {1 + max(i for i, r in enumerate(self.rates, 1) if r)}",
                [
                    ("the schedule was made for fewer updates than the run has", 0.8),
                    ("scheduler.step() is called too often", 0.2),
                ],
                "num_training_steps has to be the number of optimizer steps",
                update,
            )

    def loaded(self, file, found):
        """A checkpoint that is read in mid-run: the rows that come next must be new ones."""
        places = (
            [
                found[name]
                for name in ("step", "iter", "iter_num", "global_step", "update", "updates")
                if isinstance(found.get(name), int)
            ]
            if isinstance(found, dict)
            else []
        )
        if self.sequence and places and max(places) > 0:
            self.resumed = (len(self.sequence), max(places))

    def repeated(self, update):
        """After a checkpoint was read: are the next rows those with which the run began?"""
        if self.resumed is None or len(self.sequence) < self.resumed[0] + 24:
            return
        (place, step), self.resumed = self.resumed, None
        again = sum(a == b for a, b in zip(self.sequence[place : place + 24], self.sequence[:24]))
        if again > 20:
            yield Finding(
                "resume-repeats-samples",
                "certain",
                "After the resume the rows come from the beginning again: some are seen twice, others never.",
                f"a checkpoint of update {step:,} was read, and {again} of the next 24 rows are those of the first updates",
                [("the place in the data is not restored", 0.95)],
                "skip the batches that were seen (accelerator.skip_first_batches), or make a batch a function of its number",
                update,
            )

    def read(self, rows, update):
        """Remember rows and pieces of them."""
        close = update <= 20 or update % 10 == 0  # pieces cost time; rows hardly any
        for row in rows.lists():
            key = hash(tuple(row))
            if len(self.sequence) < 100_000:
                self.sequence.append(key)
            self.again += [key in self.rows] * (len(self.again) < FIRST)
            self.rows[key] += 1
            self.total += 1
            self.lengths.append((update, len(row)))
            if close and len(self.pieces) < 500_000:
                self.looked += 1
                self.pieces.update(set(windows(row)))
        self.read_closely += len(rows.ids) * close
        if rows.trained is not None and close and len(self.learned) < 500_000:
            for row, trained in zip(rows.ids.tolist(), rows.trained.tolist()):
                self.learned.update(set(windows(row, trained)))
        yield from self.repeated(update)
        distinct = len(self.rows)
        most = max(self.rows.values())
        if (
            self.total >= 64
            and distinct >= 8
            and most > 0.2 * self.total
            and most > 4 * self.total / distinct
        ):
            yield Finding(
                "one-document-dominates",
                "warning",
                "One text makes up much of what is trained on.",
                f"{most} of {self.total} rows are the same row",
                [("it is in the data many times", 0.9)],
                "remove exact copies before training",
                update,
            )
        elif (
            self.total >= 64
            and update % 5 == 0
            and len(self.learned) >= 64
            and (share := self.copies(rows)) > 0.25
        ):
            yield Finding(
                "one-document-dominates",
                "warning",
                "The same passages make up much of what is trained on.",
                f"{share:.0%} of the rows of this update consist mostly of passages that came again and again before",
                [("one document, or a notice before each of them, is in the data many times", 0.9)],
                "remove copies; look at the most frequent passages",
                update,
            )
        passes = self.total / distinct
        if distinct >= 8 and passes >= EPOCHS and self.total > 100:
            yield Finding(
                "too-many-epochs",
                "warning",
                f"The same {distinct:,} rows have been trained on {passes:.0f} times.",
                f"{self.total:,} rows in {update:,} updates, {distinct:,} of them different",
                [
                    (
                        "the number of updates was chosen without regard to the size of the data",
                        0.9,
                    ),
                    ("it is an overfitting test", 0.1),
                ],
                "updates × batch / rows = epochs; a few are usual, more only repeat",
                update,
            )
        elif (
            update % 50 == 0 and len(self.pieces) >= 64
        ):  # windows that begin anywhere are never the same: their pieces are
            seldom = sorted(self.pieces.values())[len(self.pieces) // 10]
            passes = seldom * self.total / max(1, self.looked)
            if seldom >= 4 and passes >= EPOCHS:
                yield Finding(
                    "too-many-epochs",
                    "warning",
                    f"The same text has been read about {passes:.0f} times.",
                    f"nine of ten pieces of {WINDOW} tokens have come {seldom} times and more in the {self.looked:,} of {self.total:,} rows that were counted",
                    [
                        (
                            "the number of updates was chosen without regard to the size of the data",
                            0.9,
                        ),
                        ("it is an overfitting test", 0.1),
                    ],
                    "updates × batch × context / tokens of the text = epochs; a few are usual, more only repeat",
                    update,
                )
        if update == 20:
            yield from self.growing(update)

    def copies(self, rows):
        """Return the share of rows that consist mostly of pieces that come again and again: more than a frame that all rows have."""
        usual = median(self.learned.values())
        often = {
            piece
            for piece, count in self.learned.items()
            if count > max(0.02 * self.read_closely, 10 * usual, 8)
        }
        parts = [set(windows(row)) for row in rows.lists()]
        return sum(len(part & often) > 0.7 * len(part) > 0 for part in parts) / max(1, len(parts))

    def growing(self, update):
        """Rows that begin short and grow: time and memory are judged from the short ones."""
        means = [
            sum(n for u, n in self.lengths if lo < u <= lo + 4)
            / max(1, sum(lo < u <= lo + 4 for u, _ in self.lengths))
            for lo in range(0, update, 4)
        ]
        lengths = [n for _, n in self.lengths]
        ordered = (
            len(lengths) >= 64 and len(set(lengths)) >= 6 and lengths == sorted(lengths)
        )  # not by chance, little as they may grow
        if ordered or all(a < b for a, b in zip(means, means[1:])) and means[-1] > 1.5 * means[0]:
            yield Finding(
                "time-left-misjudged",
                "warning",
                "Rows grow from update to update: the time left, judged by the first ones, is too short, and so is the memory.",
                "mean tokens in a row, four updates each: "
                + ", ".join(f"{mean:.0f}" for mean in means)
                + "; no row is shorter than the one before it" * ordered,
                [("the data is sorted by length", 0.9)],
                "shuffle the rows; rehearse with the longest one",
                update,
            )

    def ended(self):
        self.calls.append(
            max(self.doctor.now.scheduled.values(), default=0)
        )  # after the last update
        self.examine(set())
        yield from self.examined()
        yield from self.longer([], self.doctor.updates)
        if self.suspect and not self.honest:
            yield self.suspect
        if self.meet.name.startswith("handrail-rows-"):
            with suppress(OSError):
                (self.meet / f"rows-{self.doctor.rank}").unlink()
                self.meet.rmdir()  # the last one out
        if len(self.rates) >= 30 and self.made and not sum(self.calls):
            yield Finding(
                "scheduler-miscounted",
                "warning",
                "A schedule was made for the learning rate, and it was never moved.",
                f"{self.kind}: 0 calls of step() in {len(self.rates)} updates, the rate stayed {self.rates[-1]:.3g}",
                [("scheduler.step() is missing", 0.9)],
                "scheduler.step() after each optimizer.step()",
                self.doctor.updates,
            )
        late = self.rates[-len(self.rates) // 2 :]
        if (
            len(self.doctor.steppers) == 1
            and len(self.rates) >= 40
            and 0 < max(late) < 1e-2 * max(self.rates)
        ):
            yield Finding(
                "scheduler-miscounted",
                "warning",
                "For half of the run the learning rate was next to nothing.",
                f"{max(self.rates):.3g} at its highest, {max(late):.3g} and less in the last {len(late)} of {len(self.rates)} updates",
                [
                    (
                        "the schedule falls too early or too often: counted wrongly, or on the wrong signal, as ReduceLROnPlateau with mode='max' on a loss",
                        0.9,
                    )
                ],
                "plot the rate of every update before you start",
                self.doctor.updates,
            )
        if (
            len(self.doctor.steppers) == 1
            and len(self.rates) >= 40
            and late == sorted(late)
            and late[len(late) // 5] < late[-1]
        ):
            yield Finding(
                "scheduler-miscounted",
                "warning",
                "The run ended while the learning rate was still warming up.",
                f"it rose in the last {len(late)} of {len(self.rates)} updates, from {late[0]:.3g} to {late[-1]:.3g}, and never fell",
                [
                    (
                        "the schedule was made for more steps than it gets: counted in rows, or moved once an epoch",
                        0.7,
                    ),
                    ("the run was stopped early", 0.3),
                ],
                "num_training_steps has to be the number of optimizer steps",
                self.doctor.updates,
            )

    def longer(self, batches, update):
        """A batch far longer than all before it: where memory is tight, this is where it runs out."""
        size = max((rows.ids.numel() for rows in batches), default=0)
        if self.jump and (
            size < 0.6 * self.jump[0] or not batches
        ):  # else a second stage, of longer rows, has begun
            size, before, update = self.jump
            yield Finding(
                "out-of-memory-late",
                "warning",
                "A batch came that is far larger than all before: where memory is tight, a run dies here, hours in.",
                f"{size:,} tokens at update {update}, at most {before:,} before",
                [("a few rows are much longer than the others", 0.9)],
                "begin with the longest batch; cut or leave out such rows",
                update,
            )
        self.jump = (
            (size, self.largest, update) if update > 10 and size > 2.5 * self.largest > 0 else None
        )
        self.largest = max(self.largest, size)

    def examine(self, current):
        """Note, in each pass of an evaluation, which rows were trained on; a pass over rows of this very update is a reference's, or chooses among them."""
        for seen in self.doctor.now.evals:
            if not seen.losses and "labels" not in seen.inputs:
                continue
            rows, others, shares = (
                texts_of(seen),
                exactly(seen),
                self.shares.setdefault(id(seen.module), []),
            )
            lists = [row for row in rows.lists() if says_something(row)] if rows is not None else []
            if others and current.isdisjoint(others):
                shares.append([EXACT * (key in self.other) for key in others])
            elif lists and current.isdisjoint(map(tuple, lists)):
                shares.append([self.share(row) for row in lists])

    def share(self, row):
        """Return which part of a row's pieces was trained on; EXACT if it was as a whole."""
        pieces = set(windows(row))
        return (
            EXACT
            if hash(tuple(row)) in self.rows
            else sum(piece in self.pieces for piece in pieces) / max(1, len(pieces))
        )

    def examined(self):
        """Judge one evaluation. One that is half on train and half on val, as some do on purpose, has a part without any known row."""
        evaluations, self.shares = self.shares.values(), {}
        for shares in evaluations:
            yield from self.judged(shares)

    def judged(self, shares):
        each = [sum(share > familiar(part) for share in part) / len(part) for part in shares]
        half = len(shares) // 2
        parts = [
            sum(part, [])
            for part in ((shares[:half], shares[half:]) if half > 1 else ([one] for one in shares))
        ]
        rows, known = (
            sum(map(len, parts)),
            [sum(share > familiar(part) for share in part) for part in parts],
        )
        self.honest |= sum(known) < 0.5 * rows
        if sum(known) > 0.95 * rows:  # meant so, as training accuracy, if another evaluation is not
            self.suspect = self.suspect or self.overlap(sum(known), rows, alike=rows < 8)
            return
        if self.train_then_val(shares) or self.train_then_val(shares[::-1]):
            return
        if sum(known) >= 3 and sum(known) > 0.01 * rows and min(known) > 0:
            alike = sum(known) < max(8, 0.05 * rows) or sum(known) < 1.5 * self.by_nature() * rows
            yield self.overlap(
                sum(known),
                rows,
                apart=len(each) > 3 and all(share > 0.95 or share == 0 for share in each),
                alike=alike,
            )

    def by_nature(self):
        """Return which part of new rows would have been trained on, because there are not many that are possible: as many as the rows of one pass repeat."""
        end = (
            next(
                (i for i in range(32, len(self.again)) if sum(self.again[i - 32 : i]) > 16),
                len(self.again) + 32,
            )
            - 32
        )  # there the second pass begins
        repeats = sum(self.again[:end])
        return (
            1 - math.exp(-2 * repeats * max(len(self.rows), len(self.other)) / end**2)
            if repeats > 1
            else 0
        )

    def overlap(self, known, rows, apart=False, alike=False):
        """Return the finding; apart: the rows that are known fill passes of their own; alike: the rows of train repeat each other."""
        if apart:
            return Finding(
                "train-val-overlap",
                "warning",
                "Part of what is evaluated was trained on.",
                f"{known} of {rows} rows of an evaluation, in passes of their own",
                [
                    ("val holds a part of train: look at the slices", 0.6),
                    ("train and val are measured one after the other, meant so", 0.4),
                ],
                "split by document, and count the rows that are in both",
                self.doctor.updates,
            )
        causes = [
            ("texts stand in both parts: copies, or a split after cutting", 0.7),
            ("the same part is used for both", 0.3),
        ]
        return Finding(
            "train-val-overlap",
            "warning" if alike else "certain",
            "What is evaluated was trained on: the loss on val says nothing about new texts.",
            f"{known} of {rows} rows of an evaluation, exactly or nearly",
            causes if known < 0.95 * rows else [(causes[1][0], 0.7), (causes[0][0], 0.3)],
            "split by document, and remove copies before splitting",
            self.doctor.updates,
        )

    def train_then_val(self, shares):
        """Return True if an evaluation begins with all that is trained on, and ends with passes of which no row was."""
        known = [sum(share > familiar(part) for share in part) for part in shares]
        first = next((i for i in range(len(shares)) if not sum(known[i:])), len(shares))
        before, after = sum(map(len, shares[:first])), sum(map(len, shares[first:]))
        return after > 0 and sum(known[:first]) > 0.8 * max(before, min(self.total, len(self.rows)))

    def ranks(self, update):
        """Rows of other processes, through files: no process waits for another."""
        world = torch.distributed.get_world_size() if grouped() else 1
        if world < 2 or update > 24:
            return
        if update == 8:
            self.meet.mkdir(exist_ok=True)
            (self.meet / f"rows-{self.doctor.rank}").write_text(
                json.dumps([sorted(self.rows), some_weights(self.doctor.trained), self.doctor.read])
            )
        if update > 8 and self.doctor.rank == 0 and not self.shared:
            files = [file for file in self.meet.glob("rows-*") if file.name != "rows-0"]
            others = [json.loads(file.read_text()) for file in files if file.stat().st_size]
            self.shared = others if len(others) == world - 1 else []
            mine, read = json.loads((self.meet / "rows-0").read_text())[1:]
            apart = [
                weights
                for _, weights, _ in self.shared
                if len(weights) == len(mine) and weights != mine
            ]
            if apart:
                yield Finding(
                    "ranks-train-apart",
                    "warning",
                    "The processes train models of their own: their weights are no longer the same.",
                    f"after update 8, of {len(mine)} weights that were compared {sum(a != b for a, b in zip(apart[0], mine))} differ between two processes",
                    [
                        (
                            "the model is called around DistributedDataParallel (model.module(...)), or was never wrapped in it",
                            0.8,
                        ),
                        (
                            "each is meant to have its own: layers of a pipeline, a search for settings",
                            0.2,
                        ),
                    ],
                    "call the model that accelerator.prepare or DistributedDataParallel gave back",
                    update,
                )
            same = [
                1.0
                if other == read and len(set(read)) > 4 and not apart
                else len(set(rows) & set(self.rows)) / max(1, len(rows))
                for rows, _, other in self.shared
            ]
            if any(share > 0.9 for share in same):
                yield Finding(
                    "ranks-share-data",
                    "certain",
                    "Every process reads the same rows: the others' work is wasted.",
                    f"{max(same):.0%} of the rows of another process are also those of process 0",
                    [
                        (
                            "the data is not divided: no DistributedSampler, or all processes have one seed and no rank",
                            0.95,
                        )
                    ],
                    "accelerator.prepare(dataloader), DistributedSampler, or datasets' split_dataset_by_node",
                    update,
                )


def some_weights(model):
    """Return a few values of a model's first trained tensor; none where processes hold different parts of it."""
    whole = (
        [
            p
            for name, p in model.named_parameters()
            if p.requires_grad and type(p) is torch.nn.Parameter and "_flat_param" not in name
        ]
        if model is not None
        else []
    )
    return whole[0].detach().flatten()[:32].tolist() if whole else []


def texts_of(seen):
    """Return the Rows of a pass that learns, or is asked, the next token of a text; None of one with another task."""
    rows = (
        rows_of(seen)
        if seen.ids is not None and seen.ids.size(1) >= TEXT and not beside(seen)
        else None
    )
    told = rows is not None and rows.ahead in (0, 1, 2)
    writes = (
        rows is not None and rows.ahead is None and hasattr(bare(seen.module), "generate")
    )  # its loss is its own, or out of sight
    return rows if told or writes else None


def beside(seen):
    """Return what is read beside the tokens of each row: a picture, a sound."""
    return [
        value
        for name, value in seen.inputs.items()
        if "mask" not in name
        and isinstance(value, torch.Tensor)
        and value.is_floating_point()
        and value.ndim > 1
        and len(value) == len(seen.ids)
    ]


def exactly(seen):
    """Return a number for each row of another task than the next token (which class is it?), of all that is read with it; [] of texts."""
    rows = (
        rows_of(seen)
        if seen.ids is not None and seen.ids.size(1) >= WINDOW and texts_of(seen) is None
        else None
    )
    if rows is None or rows.turned:
        return []
    more = beside(seen)
    sums = (
        zip(
            *(
                [round(total, 4) for total in value.flatten(1).float().sum(1).tolist()]
                for value in more
            )
        )
        if more
        else [()] * len(rows.ids)
    )
    return [
        hash((*row, beside))
        for row, beside in zip(rows.lists(), sums)
        if len(set(row)) > WINDOW // 2
    ]


def says_something(row):
    """Return False for a row of little but one thing again and again: a line drawn with ==== stands in every text."""
    pieces = list(zip(row, row[1:], row[2:], row[3:]))
    return len(set(pieces)) > len(pieces) / 3


def familiar(shares):
    """Return the share from which on a row counts as nearly trained on: none, where the usual row is made of known phrases as well."""
    usual = median([share for share in shares if share < EXACT] or [0])
    return 1 if 0.4 < usual < 0.95 else 0.8


def windows(row, trained=None):
    """Yield hashes of some windows of a row (of learned tokens only); which ones depends on their text alone, so that shifted copies meet."""
    for i in range(0, len(row) - WINDOW + 1):
        if (
            (row[i] * 2654435761 + row[i + 1]) % 4 == 0
            and len(set(row[i : i + WINDOW])) > WINDOW // 2
            and (trained is None or all(trained[i : i + WINDOW]))
        ):  # no padding
            yield hash(tuple(row[i : i + WINDOW]))
