"""Probe F: the schedule of the rate, and the order of the rows: arithmetic that nobody does by hand."""

import json
import os
import tempfile
from collections import Counter
from contextlib import suppress
from pathlib import Path

from handrail.doctor.findings import Finding
from handrail.doctor.rows import rows_of

WINDOW = 16  # tokens in a row that count as the same text
TEXT = 8  # tokens in a row from which on it is taken for a text: columns of a table may be numbers too
EPOCHS = 20  # as many passes over the same rows are hardly ever meant


class Order:
    """Counts schedulers, rows and the pieces of text in them."""

    def __init__(self, doctor):
        self.doctor, self.calls, self.rates, self.made = doctor, [], [], 0
        self.rows, self.total, self.pieces, self.learned, self.lengths, self.shared = Counter(), 0, Counter(), Counter(), [], []
        self.planned = self.model = None
        self.read_closely = 0  # rows whose pieces were counted
        self.largest = 0  # tokens in a batch
        self.sequence, self.resumed = [], None  # rows in the order in which they came; where a checkpoint was read
        own = Path(tempfile.gettempdir(), f"handrail-rows-{os.getppid()}-{os.environ.get('MASTER_PORT', 0)}")
        self.meet = Path(os.environ.get("HANDRAIL_WATCH", own))  # where the processes of one machine find each other's rows
        self.shares = []  # of the evaluation under way: (rows, rows that were trained on) of each pass

    def scheduled(self, scheduler):
        self.made += bool(getattr(scheduler, "_is_initial", False))
        self.kind = type(scheduler).__name__

    def after_step(self, optimizer):
        doctor, update = self.doctor, self.doctor.updates
        self.calls.append(max(doctor.now.scheduled.values(), default=0))
        self.rates.append(max(doctor.now.rates, default=0.0))
        yield from self.schedule(update)
        if update > 400 and update % 10:
            return
        if doctor.trained is not self.model:  # a new one, of another fold for example, has read nothing yet
            self.model, self.rows, self.pieces, self.learned, self.total, self.read_closely = doctor.trained, Counter(), Counter(), Counter(), 0, 0
        batches = [rows for rows in map(rows_of, doctor.now.passes) if rows is not None and rows.ids.size(1) >= TEXT]
        self.examine([row for rows in batches for row in rows.lists()])
        yield from self.examined()
        for rows in batches:
            yield from self.read(rows, update)
        yield from self.longer(batches, update)
        yield from self.ranks(update)

    def schedule(self, update):
        # the call that belongs to update n may come before or after update n's step; so the middle is looked at
        recent = self.calls[-8:-1]
        if update >= 9 and min(recent) >= 2 and self.made:
            yield Finding("scheduler-miscounted", "certain", f"The learning rate's schedule moves {min(recent)} steps with every update: it ends after 1/{min(recent)} of the run.",
                          f"scheduler.step() was called {min(recent)} times in each of the last updates; the rate is {self.rates[-1]:.3g} now",
                          [("scheduler.step() stands inside the loop over batches of one update, or is called for every process", 0.9)], "one scheduler.step() after each optimizer.step()", update)  # fmt: skip
        if update >= 6 and not any(self.rates[-5:]) and any(self.rates):
            yield Finding("scheduler-miscounted", "certain", "The learning rate has reached 0, and the run goes on: nothing is learned any more.", f"it is 0 since update {1 + max(i for i, r in enumerate(self.rates, 1) if r)}",
                          [("the schedule was made for fewer updates than the run has", 0.8), ("scheduler.step() is called too often", 0.2)], "num_training_steps has to be the number of optimizer steps", update)  # fmt: skip

    def loaded(self, file, found):
        """A checkpoint that is read in mid-run: the rows that come next must be new ones."""
        places = [found[name] for name in ("step", "iter", "iter_num", "global_step", "update", "updates") if isinstance(found.get(name), int)] if isinstance(found, dict) else []
        if self.sequence and places and max(places) > 0:
            self.resumed = (len(self.sequence), max(places))

    def repeated(self, update):
        """After a checkpoint was read: are the next rows those with which the run began?"""
        if self.resumed is None or len(self.sequence) < self.resumed[0] + 24:
            return
        (place, step), self.resumed = self.resumed, None
        again = sum(a == b for a, b in zip(self.sequence[place : place + 24], self.sequence[:24]))
        if again > 20:
            yield Finding("resume-repeats-samples", "certain", "After the resume the rows come from the beginning again: some are seen twice, others never.", f"a checkpoint of update {step:,} was read, and {again} of the next 24 rows are those of the first updates",
                          [("the place in the data is not restored", 0.95)], "skip the batches that were seen (accelerator.skip_first_batches), or make a batch a function of its number", update)  # fmt: skip

    def read(self, rows, update):
        """Remember rows and pieces of them."""
        close = update <= 20 or update % 10 == 0  # pieces cost time; rows hardly any
        for row in rows.lists():
            key = hash(tuple(row))
            if len(self.sequence) < 100_000:
                self.sequence.append(key)
            self.rows[key] += 1
            self.total += 1
            self.lengths.append((update, len(row)))
            if close and len(self.pieces) < 500_000:
                self.pieces.update(set(windows(row)))
        self.read_closely += len(rows.ids) * close
        if rows.trained is not None and close and len(self.learned) < 500_000:
            for row, trained in zip(rows.ids.tolist(), rows.trained.tolist()):
                self.learned.update(set(windows(row, trained)))
        yield from self.repeated(update)
        distinct = len(self.rows)
        most = max(self.rows.values())
        if self.total >= 64 and distinct >= 8 and most > 0.2 * self.total and most > 4 * self.total / distinct:
            yield Finding("one-document-dominates", "warning", "One text makes up much of what is trained on.", f"{most} of {self.total} rows are the same row", [("it is in the data many times", 0.9)],
                          "remove exact copies before training", update)  # fmt: skip
        elif self.total >= 64 and self.learned:
            piece, often = self.learned.most_common(1)[0]
            if often > 0.25 * self.read_closely and often > 8 * self.total / distinct:
                yield Finding("one-document-dominates", "warning", "One piece of text stands in a great part of the rows.", f"the same {WINDOW} tokens are in {often} of {self.read_closely} rows",
                              [("one document is in the data many times", 0.7), ("every row begins with the same frame, a system message for example", 0.3)], "remove copies; look at the most frequent row", update)  # fmt: skip
        passes = self.total / distinct
        if distinct >= 8 and passes >= EPOCHS and self.total > 100:
            yield Finding("too-many-epochs", "warning", f"The same {distinct:,} rows have been trained on {passes:.0f} times.", f"{self.total:,} rows in {update:,} updates, {distinct:,} of them different",
                          [("the number of updates was chosen without regard to the size of the data", 0.9), ("it is an overfitting test", 0.1)], "updates × batch / rows = epochs; a few are usual, more only repeat", update)  # fmt: skip
        if update == 20:
            yield from self.growing(update)

    def growing(self, update):
        """Rows that begin short and grow: time and memory are judged from the short ones."""
        means = [sum(n for u, n in self.lengths if lo < u <= lo + 4) / max(1, sum(lo < u <= lo + 4 for u, _ in self.lengths)) for lo in range(0, update, 4)]
        lengths = [n for _, n in self.lengths]
        ordered = len(lengths) >= 64 and len(set(lengths)) >= 6 and lengths == sorted(lengths)  # not by chance, little as they may grow
        if ordered or all(a < b for a, b in zip(means, means[1:])) and means[-1] > 1.5 * means[0]:
            yield Finding("time-left-misjudged", "warning", "Rows grow from update to update: the time left, judged by the first ones, is too short, and so is the memory.",
                          "mean tokens in a row, four updates each: " + ", ".join(f"{mean:.0f}" for mean in means) + "; no row is shorter than the one before it" * ordered,
                          [("the data is sorted by length", 0.9)], "shuffle the rows; rehearse with the longest one", update)  # fmt: skip

    def ended(self):
        self.examine([])
        yield from self.examined()
        if self.meet.name.startswith("handrail-rows-"):
            with suppress(OSError):
                (self.meet / f"rows-{self.doctor.rank}").unlink()
                self.meet.rmdir()  # the last one out
        if len(self.rates) >= 30 and self.made and not sum(self.calls):
            yield Finding("scheduler-miscounted", "warning", "A schedule was made for the learning rate, and it was never moved.", f"{self.kind}: 0 calls of step() in {len(self.rates)} updates, the rate stayed {self.rates[-1]:.3g}",
                          [("scheduler.step() is missing", 0.9)], "scheduler.step() after each optimizer.step()", self.doctor.updates)  # fmt: skip
        late = self.rates[-len(self.rates) // 2 :]
        if len(self.rates) >= 40 and all(a < b for a, b in zip(late, late[1:])):
            yield Finding("scheduler-miscounted", "warning", "The run ended while the learning rate was still warming up.", f"it rose with each of the last {len(late)} of {len(self.rates)} updates, to {late[-1]:.3g}, and never fell",
                          [("the schedule was made for more steps than the run has: for rows, or for all processes", 0.7), ("the run was stopped early", 0.3)], "num_training_steps has to be the number of optimizer steps", self.doctor.updates)  # fmt: skip

    def longer(self, batches, update):
        """A batch far longer than all before it: where memory is tight, this is where it runs out."""
        size = max((rows.ids.numel() for rows in batches), default=0)
        if update > 10 and size > 2.5 * self.largest > 0:
            yield Finding("out-of-memory-late", "warning", "A batch came that is far larger than all before: where memory is tight, a run dies here, hours in.", f"{size:,} tokens at update {update}, at most {self.largest:,} before",
                          [("a few rows are much longer than the others", 0.9)], "begin with the longest batch; cut or leave out such rows", update)  # fmt: skip
        self.largest = max(self.largest, size)

    def examine(self, current):
        """Count, in each pass of an evaluation, the rows that were trained on before; those of this very update are a reference's."""
        current = {tuple(row) for row in current}
        for seen in self.doctor.now.evals:
            rows = rows_of(seen) if seen.ids.size(1) >= TEXT and (seen.losses or "labels" in seen.inputs) else None
            lists = [row for row in rows.lists() if tuple(row) not in current] if rows is not None else []
            if lists:
                self.shares.append((len(lists), sum(self.known(row) for row in lists)))

    def known(self, row):
        """Return True if a row was trained on, exactly or nearly."""
        pieces = set(windows(row))
        return hash(tuple(row)) in self.rows or bool(pieces) and sum(piece in self.pieces for piece in pieces) > 0.8 * len(pieces)

    def examined(self):
        """Judge one evaluation. One that is half on train and half on val, as some do on purpose, has a part without any known row."""
        shares, self.shares = self.shares, []
        rows, known = sum(n for n, _ in shares), sum(k for _, k in shares)
        parts = [sum(k for _, k in part) for part in (shares[: len(shares) // 2], shares[-(len(shares) // 2) :])] if len(shares) > 3 else [k for _, k in shares] or [0]
        if known >= 2 and known > 0.01 * rows and min(parts) > 0:
            yield Finding("train-val-overlap", "certain", "What is evaluated was trained on: the loss on val says nothing about new texts.", f"{known} of {rows} rows of an evaluation, exactly or nearly",
                          [("texts stand in both parts: copies, or a split after cutting", 0.7), ("the same part is used for both", 0.3)], "split by document, and remove copies before splitting", self.doctor.updates)  # fmt: skip

    def ranks(self, update):
        """Rows of other processes, through files: no process waits for another."""
        world = int(os.environ.get("WORLD_SIZE", 1))
        if world < 2 or update > 24:
            return
        if update == 8:
            self.meet.mkdir(exist_ok=True)
            (self.meet / f"rows-{self.doctor.rank}").write_text(json.dumps(sorted(self.rows)))
        if update > 8 and self.doctor.rank == 0 and not self.shared:
            files = [file for file in self.meet.glob("rows-*") if file.name != "rows-0"]
            others = [set(json.loads(file.read_text())) for file in files if file.stat().st_size]
            self.shared = others if len(others) == world - 1 else []
            same = [len(other & set(self.rows)) / max(1, len(other)) for other in self.shared]
            if any(share > 0.9 for share in same):
                yield Finding("ranks-share-data", "certain", "Every process reads the same rows: the others' work is wasted.", f"{max(same):.0%} of the rows of another process are also those of process 0",
                              [("the data is not divided: no DistributedSampler, or all processes have one seed and no rank", 0.95)], "accelerator.prepare(dataloader), DistributedSampler, or datasets' split_dataset_by_node", update)  # fmt: skip


def windows(row, trained=None):
    """Yield hashes of some windows of a row (of learned tokens only); which ones depends on their text alone, so that shifted copies meet."""
    for i in range(0, len(row) - WINDOW + 1):
        if (row[i] * 2654435761 + row[i + 1]) % 4 == 0 and len(set(row[i : i + WINDOW])) > WINDOW // 2 and (trained is None or all(trained[i : i + WINDOW])):  # no padding
            yield hash(tuple(row[i : i + WINDOW]))
