"""What goes into generate, and what comes out of it?"""

from collections import Counter

import torch

from ..findings import finding
from ..token_rows import real_in, rows_of

COPY = 24  # tokens in a row that nobody writes twice by chance


class Generation:
    """Compares what the model writes with what it was trained on."""

    def __init__(self, doctor):
        self.doctor, self.runs = doctor, Counter()  # of tokens that were trained on
        self.texts, self.copied = 0, 0
        self.longest, self.prompts = 0, []  # tokens: in a row that was trained on, in prompts

    def after_step(self, optimizer):
        passes, update = self.doctor.now.passes, self.doctor.updates
        widths = [seen.ids.size(1) for seen in passes if seen.ids is not None]
        self.longest = max([self.longest, *widths])
        rows = rows_of(passes[-1]) if passes else None
        if rows is not None and (update <= 20 or update % 10 == 0) and len(self.runs) < 500_000:
            for row in rows.lists():
                self.runs.update(set(runs_of(row)))

    def generated(self, model, inputs, mask, found):
        if not isinstance(inputs, torch.Tensor) or inputs.ndim != 2:
            return
        decoder = not getattr(getattr(model, "config", None), "is_encoder_decoder", False)
        real = real_in(inputs, mask, self.doctor.tokenizer)
        right = int((~real[:, -1]).sum())
        if decoder and inputs.size(0) > 1 and right:
            evidence = f"{right} of {inputs.size(0)} prompts end in padding"
            yield finding("right-padded-generation", evidence, self.doctor.updates)
        owned = self.doctor.history.owned  # not of another model, that makes the data
        if decoder and any(id(p) in owned for p in model.parameters()):
            self.prompts += real.sum(1).tolist()
        if isinstance(found, torch.Tensor) and self.runs:
            yield from self.compare(found[:, inputs.size(1) :].tolist())

    def ended(self):
        longer = sum(size > self.longest for size in self.prompts)
        if self.longest and longer >= max(2, 0.1 * len(self.prompts)):
            evidence = (
                f"{longer} of {len(self.prompts)} prompts are longer than any row of the training "
                f"({self.longest} tokens); the longest has {max(self.prompts)}"
            )
            yield finding("answer-truncated/longer-prompts", evidence, self.doctor.updates)

    def compare(self, texts):
        for text in texts:
            runs = list(runs_of(text))
            self.texts += bool(runs)
            self.copied += sum(run in self.runs for run in runs) > 0.5 * len(runs)
        if self.copied >= 2 and self.copied > 0.5 * self.texts:
            evidence = (
                f"{self.copied} of {self.texts} texts consist mostly of runs of {COPY} tokens from "
                "the training data"
            )
            yield finding("copied-output", evidence, self.doctor.updates)


def runs_of(row):
    """Yield hashes of some runs of a row's tokens; which ones depends on the tokens alone."""
    for i in range(len(row) - COPY + 1):
        if row[i] % 4 == row[i + 1] % 4:
            yield hash(tuple(row[i : i + COPY]))
