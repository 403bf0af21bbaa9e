"""One more forward pass of the model that is trained, to ask: what if a token were another one?"""

from collections.abc import Iterator

import torch

from .hooks import bare, tensors_in
from .no_trace import from_signal, no_trace

TOLD = ("labels", "targets")  # some models give all logits only with them
WITHOUT = (*TOLD, "past_key_values", "num_items_in_batch", "logits_to_keep")
MOVED = 1e-3  # logits have moved if by more than this share of the largest


def logits_of(seen, ids, number=0, turned=False):
    """Return the logits (1, T, V) for row `number` of a Pass with other ids (1, T), or None."""
    given = {
        name: one_row(value, seen.ids, number, turned)
        for name, value in seen.inputs.items()
        if name not in WITHOUT or name in TOLD
    }
    inputs = {name: value for name, value in given.items() if name not in TOLD}
    name = next(name for name, value in seen.inputs.items() if value is seen.ids)
    plain = {key: inputs[key] for key in ("attention_mask", "position_ids") if key in inputs}
    other, model = {name: ids.T if turned else ids}, bare(seen.module)
    # a state for a whole batch may have come along; TRL's forward wants labels, or no extras
    for some in (inputs, plain, given):
        for value in run(model, some | other):
            value = value.transpose(0, 1) if turned and value.ndim == 3 else value
            if value.ndim == 3 and value.shape[:2] == ids.shape:
                return value.float()
    return None


def run(model, inputs):
    """Return the tensors that a model gives for other inputs; [] if it cannot be called so."""
    if any(isinstance(value, Iterator) for value in inputs.values()):
        return []
    try:
        with no_trace(model, inputs):
            return tensors_in(model(**inputs))
    except Exception as error:
        if from_signal(error):
            raise
    return []


def one_row(value, ids, number, turned):
    """Return the row of that number of whatever has one entry per row."""
    along = int(turned)
    if not isinstance(value, torch.Tensor) or value.ndim <= along or ids.size(along) < 2:
        return value
    return value.narrow(along, number, 1) if value.size(along) == ids.size(along) else value


def changed(ids, pool):
    """Return ids of the same shape, each a token from `pool` that is another one at its place."""
    words = pool.unique().to(ids.device)
    places = torch.searchsorted(words, ids.contiguous())
    step = 1 + torch.arange(ids.size(1), device=ids.device) % max(1, len(words) - 1)
    return words[(places + step) % len(words)]


def moved_by_future(seen, rows):
    """Change the later tokens of a row; return (how far earlier logits moved, where it changed).

    Only logits that are trained count. 0 if they hardly moved, None if that cannot be seen.
    """
    if rows.trained is None:
        return None, 0
    number = 0 if rows.documents else int(rows.trained.sum(1).argmax())
    learned = rows.trained[number].nonzero()[:, 0]
    end = int(rows.real[number].nonzero().max()) + 1
    if len(learned) < 4 or reads_two_texts(seen, rows):
        return None, 0
    at = int(learned[len(learned) // 2])  # a question may be read both ways; answers are not
    ids = (seen.ids.T if rows.turned else seen.ids)[number : number + 1]
    other = ids.clone()
    other[:, at:end] = changed(other[:, at:end], rows.ids)
    before, after = (logits_of(seen, some, number, rows.turned) for some in (ids, other))
    if before is None or after is None or before.shape != after.shape:
        return None, at
    earlier = learned[learned <= at].to(before.device) - 1
    moved = (before - after)[:, earlier].abs().max().item()
    return moved if moved > MOVED * before.abs().max().item() else 0.0, at


def reads_two_texts(seen, rows):
    """Return True if the model reads a second text as well, as one that translates does."""
    if positions_of(seen) is not None:
        return False
    for name, value in seen.inputs.items():
        if value is seen.ids or name in ("labels", "position_ids") or not of_tokens(value):
            continue
        targets = torch.where(value < 0, -1, value).cpu()
        same = targets.shape == rows.targets.shape and torch.equal(targets, rows.targets)
        if value.max() > 1 and not same:
            return True
    return False


def of_tokens(value):
    """Return True for a tensor that may hold tokens, or one number per token."""
    return isinstance(value, torch.Tensor) and value.ndim == 2 and not value.is_floating_point()


def positions_of(seen):
    """Return the first row's positions (T,), whatever their name, or None if there are none."""
    for value in seen.inputs.values():
        if value is seen.ids or not of_tokens(value) or value.shape != seen.ids.shape:
            continue
        row = value[0].long()
        counts = (row[1:] == row[:-1] + 1) | (row[1:] == 0)
        if len(row) > 2 and row[0] == 0 and row[1] == 1 and bool(counts.all()):
            return row
    return None
