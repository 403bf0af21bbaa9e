"""The first loss next to ln V, that of a model that knows nothing."""

import math

from ..findings import finding
from ..token_rows import rows_of

LARGE = 8192  # from this vocabulary on, a model that was loaded starts far below ln V


class FirstLoss:
    """Looks twice, after updates 5 and 10: a second training may begin with another domain."""

    def __init__(self, doctor):
        self.doctor = doctor

    def after_step(self, optimizer):
        history, update = self.doctor.history, self.doctor.updates
        if update not in (5, 10) or not history.classes or not history.losses:
            return
        if not history.mean_like or history.smoothing:
            return
        chance, first = math.log(history.classes), history.losses[0]
        if history.first is not None:
            first = min(first, history.first)
        batches = max(1, len(self.doctor.now.losses))
        if first / batches > 2.0 * chance:
            values = {"loss": first, "chance": chance, "classes": history.classes}
            yield finding("start-above-chance", f"loss {first:.2f} at update 1", update, **values)
        elif self.doctor.was_loaded() and history.classes > LARGE and first > 0.95 * chance:
            if self.learns_whole_texts():
                evidence = (
                    f"loss {first:.2f} at update 1; a guess has {chance:.2f} = "
                    f"ln {history.classes:,}"
                )
                yield finding("starts-at-chance", evidence, update)

    def learns_whole_texts(self):
        """Return True if whole texts are learned, and not answers, whose form may be new to it."""
        passes = self.doctor.now.passes
        rows = rows_of(passes[-1]) if passes else None
        if rows is None or rows.trained is None:
            return False
        return bool(rows.trained[:, 1:].sum() > 0.8 * rows.real[:, 1:].sum())
