"""Change the future, or another document in the row: nothing else may move."""

from ..extra_pass import MOVED, changed, logits_of, moved_by_future, positions_of
from ..findings import finding
from ..token_rows import rows_of

# after which updates it looks: the model runs by then, and nothing is lost yet;
# a last layer that starts as zeros hides everything at first
AT = (2, 20)


class Causality:
    """Runs the model twice on one row that it was trained on, without a trace."""

    def __init__(self, doctor):
        self.doctor, self.looks = doctor, 0
        self.full, self.widths = (
            True,
            set(),
        )  # were all rows full, and of one length, as packed are?

    def passed(self, seen):
        rows = rows_of(seen) if seen.grad and self.full and not self.looks else None
        if rows is not None:
            self.widths.add(rows.ids.size(1))
            self.full = len(self.widths) == 1 and bool(rows.real.all())

    def after_step(self, optimizer):
        doctor = self.doctor
        if self.looks == len(AT) or doctor.updates < AT[self.looks] or not doctor.now.passes:
            return
        self.looks += 1
        seen = doctor.now.passes[0]
        rows = rows_of(seen)
        if rows is None or rows.ahead not in (1, 2):
            return
        if is_sharded(seen.module):
            doctor.left_out.append("causality: the weights are divided over several processes")
            self.looks = len(AT)
            return
        yield from self.causal(seen, rows)
        if not rows.turned:
            yield from self.isolated(seen, rows)

    def causal(self, seen, rows):
        moved, place = moved_by_future(seen, rows)
        if moved is None and self.looks == 1:
            self.doctor.left_out.append(
                "causality: few tokens of a row are learned, or a row alone gives no logits"
            )
        elif moved:
            evidence = (
                f"tokens from position {place} on were changed, and the logits before it moved by "
                f"{moved:.2g}"
            )
            yield finding("no-causal-mask", evidence, self.doctor.updates)

    def isolated(self, seen, rows):
        """Change the first document of a packed row, and look at the next one."""
        positions, start = positions_of(seen), self.second_document(seen, rows)
        if start is None:
            return
        other = seen.ids[:1].clone()
        other[:, 1 : start - 1] = changed(other[:, 1 : start - 1], rows.ids)
        before, after = logits_of(seen, seen.ids[:1]), logits_of(seen, other)
        if before is None or after is None:
            return
        moved = (before - after)[:, start + 1 :].abs().max().item()
        if moved > MOVED * before.abs().max().item():
            evidence = (
                "the first document was changed, and logits of the next one, from position "
                f"{start} on, moved by {moved:.2g}"
            )
            level = "warning" if positions is None else "certain"
            yield finding("packed-documents-leak", evidence, self.doctor.updates, level)

    def second_document(self, seen, rows):
        """Return where the second document of the first row starts, or None.

        Told apart by positions that restart; else by full rows in which the first words come again.
        """
        positions = positions_of(seen)
        if positions is not None:
            return next((i for i, n in enumerate(positions.tolist()) if n == 0 and i > 0), None)
        if not self.full or rows.trained is None:
            return None
        if rows.trained[0].sum() >= 0.9 * rows.real[0].sum():
            return None
        ids, ends, trained = rows.ids[0].tolist(), self.doctor.ends(), rows.trained[0]
        turns = [i + 1 for i, token in enumerate(ids[:-1]) if token in ends and trained[i]]
        for i in turns:
            if ids[:2] in (ids[i : i + 2], ids[i + 1 : i + 3]):
                return i
        return None


def is_sharded(module):
    """Return True for a model of which each process has only a part."""
    fsdp = any("FSDP" in type(inner).__name__ for inner in module.modules())
    return fsdp or "Sharded" in type(module).__name__
