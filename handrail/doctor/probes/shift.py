"""By how many tokens are the targets ahead of what is read?"""

from dataclasses import replace

import torch

from ..extra_pass import moved_by_future
from ..findings import finding
from ..token_rows import OTHER, answers_of, rows_of

LOOKED_AT = 24  # updates


class Shift:
    """Compares the targets of each pass with its tokens."""

    def __init__(self, doctor):
        self.doctor, self.own = doctor, None  # a pass whose own tokens were picked

    def picked(self, seen, targets):
        """Log-probabilities that count unevenly, as a policy's do."""
        ids = seen.ids
        if ids is not None and ids.shape == targets.shape and self.doctor.now.age <= LOOKED_AT:
            self.own = seen if torch.equal(ids.long(), targets) else None

    def after_step(self, optimizer):
        if self.doctor.now.age > LOOKED_AT:
            return
        if self.own is not None:
            yield from self.policy(self.own)
            self.own = None
        for seen in self.doctor.now.passes:
            if answers := answers_of(seen):
                yield from self.decoder(answers, seen.inputs.get("decoder_input_ids"))
            elif rows := rows_of(seen):
                yield from self.shifted(rows, seen)

    def policy(self, seen):
        rows = rows_of(seen)
        learned = rows.real.clone()
        learned[:, 0] = False
        if moved_by_future(seen, replace(rows, targets=rows.ids, trained=learned))[0] == 0:
            evidence = "the log-probabilities at each position are those of the token read there"
            yield finding("labels-not-shifted", evidence, self.doctor.updates)

    def decoder(self, answers, read):
        """An encoder-decoder makes its decoder's input from the labels; here somebody gave it."""
        if not isinstance(read, torch.Tensor) or read.shape != answers.ids.shape:
            return
        if answers.real.sum() >= 8 and bool((read.cpu() == answers.ids)[answers.real].all()):
            evidence = "decoder_input_ids equal labels, position by position"
            yield finding("labels-not-shifted/decoder", evidence, self.doctor.updates)

    def shifted(self, rows, seen):
        update = self.doctor.updates
        if rows.ahead in (None, OTHER, 1) or rows.certainty < 0.3:
            return
        if rows.ahead == 2:
            evidence = (
                f"{rows.certainty:.0%} more of the targets equal the token two positions ahead "
                "than the next one"
            )
            yield finding("labels-shifted-twice", evidence, update)
        elif rows.ahead:
            yield finding("labels-shifted-wrongly", "", update, ahead=rows.ahead)
        elif not moved_by_future(seen, rows)[0]:  # an autoencoder is meant to give its input back
            evidence = "the targets equal the inputs, position by position"
            yield finding("labels-not-shifted", evidence, update)
