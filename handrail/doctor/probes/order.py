"""Probe F: the schedule of the rate, and the order of the rows: arithmetic that nobody does by hand."""

import json
import os
from collections import Counter
from pathlib import Path

from handrail.doctor.findings import Finding
from handrail.doctor.rows import rows_of

WINDOW = 16  # tokens in a row that count as the same text
EPOCHS = 20  # as many passes over the same rows are hardly ever meant


class Order:
    """Counts schedulers, rows and the pieces of text in them."""

    def __init__(self, doctor):
        self.doctor, self.calls, self.rates, self.made = doctor, [], [], 0
        self.rows, self.first, self.total, self.pieces, self.lengths, self.shared = Counter(), {}, 0, Counter(), [], []
        self.planned = None
        self.overlap, self.evals = 0, 0

    def scheduled(self, scheduler):
        self.made += bool(getattr(scheduler, "_is_initial", False))
        self.kind = type(scheduler).__name__

    def after_step(self, optimizer):
        doctor, update = self.doctor, self.doctor.updates
        self.calls.append(doctor.now.scheduled)
        self.rates.append(max(doctor.now.rates, default=0.0))
        yield from self.schedule(update)
        if update > 400 and update % 10:
            return
        for seen in doctor.now.passes:
            rows = rows_of(seen)
            if rows is not None:
                yield from self.read(rows, update)
        for seen in doctor.now.evals:
            rows = rows_of(seen) if seen.losses or "labels" in seen.inputs else None
            if rows is not None:
                yield from self.examined(rows, update)
        yield from self.ranks(update)

    def schedule(self, update):
        # the call that belongs to update n may come before or after update n's step; so the middle is looked at
        recent = self.calls[-8:-1]
        if update >= 9 and min(recent) >= 2 and self.made:
            yield Finding("scheduler-miscounted", "certain", f"The learning rate's schedule moves {min(recent)} steps with every update: it ends after a {min(recent)}th of the run.",
                          f"scheduler.step() was called {min(recent)} times in each of the last updates; the rate is {self.rates[-1]:.3g} now",
                          [("scheduler.step() stands inside the loop over batches of one update, or is called for every process", 0.9)], "one scheduler.step() after each optimizer.step()", update)  # fmt: skip
        if update == 30 and self.made and not sum(self.calls):
            yield Finding("scheduler-miscounted", "warning", "A schedule was made for the learning rate, and it is never moved.", f"{self.kind}: 0 calls of step() in {update} updates, the rate stays {self.rates[-1]:.3g}",
                          [("scheduler.step() is missing", 0.7), ("it is called once an epoch, and the epoch is not over", 0.3)], "scheduler.step() after each optimizer.step()", update)  # fmt: skip
        if update >= 6 and not any(self.rates[-5:]) and any(self.rates):
            yield Finding("scheduler-miscounted", "certain", "The learning rate has reached 0, and the run goes on: nothing is learned any more.", f"it is 0 since update {1 + max(i for i, r in enumerate(self.rates, 1) if r)}",
                          [("the schedule was made for fewer updates than the run has", 0.8), ("scheduler.step() is called too often", 0.2)], "num_training_steps has to be the number of optimizer steps", update)  # fmt: skip

    def read(self, rows, update):
        """Remember rows and pieces of them."""
        for row in rows.lists():
            key = hash(tuple(row))
            self.rows[key] += 1
            self.total += 1
            self.lengths.append((update, len(row)))
            if len(self.pieces) < 500_000:
                self.pieces.update(set(windows(row)))
        distinct = len(self.rows)
        most = max(self.rows.values())
        if self.total >= 64 and distinct >= 8 and most > 0.2 * self.total and most > 4 * self.total / distinct:
            yield Finding("one-document-dominates", "warning", "One text makes up much of what is trained on.", f"{most} of {self.total} rows are the same row", [("it is in the data many times", 0.9)],
                          "remove exact copies before training", update)  # fmt: skip
        elif self.total >= 64 and self.pieces:
            piece, often = self.pieces.most_common(1)[0]
            if often > 0.25 * self.total and often > 8 * self.total / distinct:
                yield Finding("one-document-dominates", "warning", "One piece of text stands in a great part of the rows.", f"the same {WINDOW} tokens are in {often} of {self.total} rows",
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
        if all(a < b for a, b in zip(means, means[1:])) and means[-1] > 1.5 * means[0]:
            yield Finding("time-left-misjudged", "warning", "Rows grow from update to update: the time left, judged by the first ones, is too short, and so is the memory.",
                          "mean tokens in a row, four updates each: " + ", ".join(f"{mean:.0f}" for mean in means), [("the data is sorted by length", 0.9)], "shuffle the rows; rehearse with the longest one", update)  # fmt: skip

    def examined(self, rows, update):
        """Rows of an evaluation that were trained on."""
        for row in rows.lists():
            pieces = set(windows(row))
            self.evals += 1
            near = sum(piece in self.pieces for piece in pieces) if pieces else 0
            self.overlap += hash(tuple(row)) in self.rows or bool(pieces) and near > 0.8 * len(pieces)
        if self.overlap >= 2 and self.overlap > 0.01 * self.evals:
            yield Finding("train-val-overlap", "certain", "What is evaluated was trained on: the loss on val says nothing about new texts.", f"{self.overlap} of {self.evals} rows of the evaluation, exactly or nearly",
                          [("texts stand in both parts: copies, or a split after cutting", 0.7), ("the same part is used for both", 0.3)], "split by document, and remove copies before splitting", update)  # fmt: skip

    def ranks(self, update):
        """Rows of other processes, through files: no process waits for another."""
        folder, world = os.environ.get("HANDRAIL_WATCH"), int(os.environ.get("WORLD_SIZE", 1))
        if not folder or world < 2 or update > 24:
            return
        if update == 8:
            Path(folder, f"rows-{self.doctor.rank}").write_text(json.dumps(sorted(hash(key) for key in self.rows)))
        if update > 8 and self.doctor.rank == 0 and not self.shared:
            files = [file for file in Path(folder).glob("rows-*") if file.name != "rows-0"]
            others = [set(json.loads(file.read_text())) for file in files if file.stat().st_size]
            self.shared = others if len(others) == world - 1 else []
            same = [len(other & set(self.rows)) / max(1, len(other)) for other in self.shared]
            if any(share > 0.9 for share in same):
                yield Finding("ranks-share-data", "certain", "Every process reads the same rows: the others' work is wasted.", f"{max(same):.0%} of the rows of another process are also those of process 0",
                              [("the data is not divided: no DistributedSampler, or all processes have one seed and no rank", 0.95)], "accelerator.prepare(dataloader), DistributedSampler, or datasets' split_dataset_by_node", update)  # fmt: skip


def windows(row):
    """Yield hashes of some windows of a row; which ones depends on their text alone, so that shifted copies meet."""
    for i in range(0, len(row) - WINDOW + 1):
        if (row[i] * 2654435761 + row[i + 1]) % 4 == 0:
            yield hash(tuple(row[i : i + WINDOW]))
