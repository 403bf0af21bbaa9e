"""Probe E: change the future, or a neighbouring document, and nothing earlier may move."""

from contextlib import suppress

import torch

from ..findings import Finding
from ..hooks import bare
from ..no_trace import no_trace
from ..token_rows import rows_of

AT = (
    2,
    20,
)  # the updates after which it looks: the model runs by then, and nothing is lost yet; a last layer of zeros hides all at first


class Reading:
    """Runs the model twice on one row that it was trained on, without a trace."""

    def __init__(self, doctor):
        self.doctor, self.looks, self.full, self.widths = doctor, 0, True, set()

    def passed(self, seen):
        """Were all rows so far full, and of one length, as packed ones are?"""
        rows = rows_of(seen) if seen.grad and self.full and not self.looks else None
        if rows is not None:
            self.widths.add(rows.ids.size(1))
            self.full = len(self.widths) == 1 and bool(rows.real.all())

    def after_step(self, optimizer):
        doctor = self.doctor
        if (
            self.looks == len(AT) or doctor.updates < AT[self.looks] or not doctor.now.passes
        ):  # none: of two optimizers, the other's step
            return
        self.looks += 1
        for seen in doctor.now.passes[:1]:
            rows = rows_of(seen)
            if rows is None or rows.ahead not in (1, 2):
                return
            if "Sharded" in type(seen.module).__name__ or any(
                "FSDP" in type(m).__name__ for m in seen.module.modules()
            ):
                doctor.left_out.append("causality: the weights are spread over processes")
                self.looks = len(AT)
                return
            yield from self.causal(seen, rows)
            if not rows.turned:
                yield from self.isolated(seen, rows)

    def causal(self, seen, rows):
        moved, cut = future(seen, rows)
        if moved is None and self.looks == 1:
            self.doctor.left_out.append("causality: the model gave no logits for a row by itself")
        elif moved:
            yield Finding(
                "no-causal-mask",
                "certain",
                "The model reads the future: what it says about a token changes when later tokens do.",
                f"tokens from place {cut} on were changed, and the logits before it moved by {moved:.2g}",
                [
                    ("the causal mask is missing", 0.9),
                    (
                        "something mixes across places: a normalisation or a convolution over time",
                        0.1,
                    ),
                ],
                "is_causal=True in scaled_dot_product_attention, or a triangular mask",
                self.doctor.updates,
            )

    def isolated(self, seen, rows):
        """Documents of one packed row: told apart by positions that begin anew, else by full rows in which the first words come again."""
        positions, starts = positions_of(seen), []
        if positions is not None:
            starts = [i for i, place in enumerate(positions.tolist()) if place == 0 and i > 0]
        elif (
            self.full
            and rows.trained is not None
            and rows.trained[0].sum() < 0.9 * rows.real[0].sum()
        ):
            ids, ends = rows.ids[0].tolist(), self.doctor.ends()
            turns = [
                i + 1 for i, token in enumerate(ids[:-1]) if token in ends and rows.trained[0][i]
            ]
            starts = [
                i for i in turns if ids[i : i + 2] == ids[:2] or ids[i + 1 : i + 3] == ids[:2]
            ]
        if not starts:
            return
        changed = seen.ids[:1].clone()
        changed[:, 1 : starts[0] - 1] = other(changed[:, 1 : starts[0] - 1], rows.ids)
        before, after = logits_of(seen, seen.ids[:1]), logits_of(seen, changed)
        if before is None or after is None:
            return
        moved = (before - after)[:, starts[0] + 1 :].abs().max().item()
        if moved > 1e-3 * before.abs().max().item():
            level, meant = (
                ("certain", ("meant so, as in pretraining on endless text", 0.1))
                if positions is not None
                else ("warning", ("one long conversation of several turns, meant so", 0.4))
            )
            yield Finding(
                "packed-documents-leak",
                level,
                "Documents packed into one row see each other.",
                f"the first document was changed, and logits of the next one, from place {starts[0]} on, moved by {moved:.2g}",
                [("packing without an attention that keeps documents apart", 1 - meant[1]), meant],
                "position_ids that begin anew at each document with an attention that uses them (flash attention, flex, or SDPA's block mask)",
                self.doctor.updates,
            )


def future(seen, rows):
    """Return (by how much the logits move that stand before a change and are trained, 0 if hardly, None if that cannot be seen; the place of the change)."""
    if rows.trained is None:
        return None, 0
    number = 0 if rows.documents else int(rows.trained.sum(1).argmax())
    learned, end = rows.trained[number].nonzero()[:, 0], int(rows.real[number].nonzero().max()) + 1
    if len(learned) < 4 or two_texts(seen, rows):
        return None, 0
    at = int(learned[len(learned) // 2])  # a question may be read both ways; answers are not
    ids = (seen.ids.T if rows.turned else seen.ids)[number : number + 1]
    changed = ids.clone()
    changed[:, at:end] = other(changed[:, at:end], rows.ids)
    before, after = (logits_of(seen, some, number, rows.turned) for some in (ids, changed))
    if before is None or after is None or before.shape != after.shape:
        return None, at
    moved = (before - after)[:, learned[learned <= at].to(before.device) - 1].abs().max().item()
    return moved if moved > 1e-3 * before.abs().max().item() else 0.0, at


def two_texts(seen, rows):
    """Return True if the model reads a second text beside the first, as one that translates does."""
    for name, value in seen.inputs.items():
        if (
            isinstance(value, torch.Tensor)
            and value is not seen.ids
            and value.ndim == 2
            and not value.is_floating_point()
            and name not in ("labels", "position_ids")
            and value.max() > 1
        ):
            targets = torch.where(value < 0, -1, value).cpu()
            if positions_of(seen) is None and not (
                targets.shape == rows.targets.shape and torch.equal(targets, rows.targets)
            ):
                return True
    return False


def positions_of(seen):
    """Return the first row's positions (T,), by whatever name they were given: they count up by one and begin at 0; None if there are none."""
    for value in seen.inputs.values():
        if (
            isinstance(value, torch.Tensor)
            and value is not seen.ids
            and value.shape == seen.ids.shape
            and not value.is_floating_point()
        ):
            row = value[0].long()
            if (
                row[0] == 0
                and len(row) > 2
                and row[1] == 1
                and bool(((row[1:] == row[:-1] + 1) | (row[1:] == 0)).all())
            ):
                return row
    return None


def other(ids, pool):
    """Return ids of the same shape, each a token that occurs elsewhere in `pool` and is another one here."""
    words = pool.unique().to(ids.device)
    places = torch.searchsorted(words, ids.contiguous())
    return words[
        (places + 1 + torch.arange(ids.size(1), device=ids.device) % max(1, len(words) - 1))
        % len(words)
    ]


def logits_of(seen, ids, number=0, turned=False):
    """Return the model's logits (1, T, V) for row `number` with these ids (1, T), or None; random state, mode and weights stay as they were."""
    model = bare(seen.module)
    drop = ("labels", "past_key_values", "num_items_in_batch", "logits_to_keep")
    inputs = {
        name: cut(value, seen.ids, number, turned)
        for name, value in seen.inputs.items()
        if name not in drop
    }
    name = next(name for name, value in seen.inputs.items() if value is seen.ids)
    plain = {
        key: value for key, value in inputs.items() if key in ("attention_mask", "position_ids")
    }  # TRL's forward wants labels, or no extras
    output = None
    with no_trace(model):
        for given in (inputs, plain):
            with suppress(
                TypeError, ValueError, RuntimeError
            ):  # a state for a whole batch came along, for example
                output = model(**given | {name: ids.T if turned else ids})
                break
    if output is None:
        return None
    values = (
        output.values()
        if isinstance(output, dict)
        else output
        if isinstance(output, tuple)
        else [output]
    )
    values = [
        v.transpose(0, 1) if turned else v
        for v in values
        if isinstance(v, torch.Tensor) and v.ndim == 3
    ]
    found = [v for v in values if v.shape[:2] == ids.shape]
    return found[0].float() if found else None


def cut(value, ids, number, turned):
    """Return the row of that number of whatever comes a row each."""
    along = int(turned)
    rows = (
        isinstance(value, torch.Tensor)
        and value.ndim > along
        and value.size(along) == ids.size(along)
        and ids.size(along) > 1
    )
    return value.narrow(along, number, 1) if rows else value
