"""The rows of one forward pass: what is read, what is real, what is learned."""

from dataclasses import dataclass

import torch

OTHER = -9  # the targets are no tokens of the row: another task
# of what a model may be given, where it computes the loss
NAMES = ("labels", "lm_labels", "targets", "target", "y", "next_tokens")


@dataclass
class Rows:
    """One batch, on the CPU."""

    ids: torch.Tensor  # (B, T)
    real: torch.Tensor  # (B, T): no padding
    trained: torch.Tensor | None = None  # (B, T), None where no loss was seen
    targets: torch.Tensor | None = None  # to be predicted at each place, -1 where nothing counts
    ahead: int | None = None  # by how many places the targets are ahead of the tokens; 1 is right
    certainty: float = 0.0  # how much better that offset fits than 1
    masked: bool = False  # the caller said which tokens are real
    documents: bool = False  # they were packed into one row, and are apart again
    turned: bool = False  # the model reads (T, B)

    def lists(self):
        """Return each row's real tokens as a list."""
        return [row[keep].tolist() for row, keep in zip(self.ids, self.real, strict=True)]


def rows_of(seen):
    """Return the Rows of a Pass, or None if it reads no tokens.

    They are made once, and again when a loss was heard.
    """
    if seen.rows is None or seen.rows[0] != len(seen.losses):
        seen.rows = (len(seen.losses), make_rows(seen))
    return seen.rows[1]


def make_rows(seen):
    if seen.ids is None:
        return None
    ids, mask = seen.ids.detach().cpu().long(), seen.inputs.get("attention_mask")
    masked = isinstance(mask, torch.Tensor) and mask.shape == ids.shape
    real = mask.cpu().bool() if masked else torch.ones_like(ids, dtype=torch.bool)
    rows = Rows(ids, real, masked=masked)
    # an encoder-decoder does not go on from what it reads
    targets = None if is_encoder_decoder(seen) else targets_of(seen, ids)
    if targets is not None:
        rows.ahead, rows.certainty = offset(ids, targets)
        if rows.ahead == OTHER and targets.shape == ids.shape:
            ahead, certainty = offset(ids.T, targets.T)
            if ahead in (0, 1, 2):
                ids, targets = ids.T, targets.T
                real = torch.ones_like(ids, dtype=torch.bool)
                rows = Rows(ids, real, ahead=ahead, certainty=certainty, turned=True)
        rows.targets = targets
        rows.trained = torch.zeros_like(ids, dtype=torch.bool)
        width = min(ids.size(1) - 1, targets.size(1))
        rows.trained[:, 1 : width + 1] = targets[:, :width] >= 0
    return unpacked(rows, seen.inputs.get("position_ids"))


def unpacked(rows, positions):
    """Return the documents of a packed row as rows, where restarting positions tell them apart."""
    if not isinstance(positions, torch.Tensor) or positions.shape != rows.ids.shape:
        return rows
    starts = (positions[0].cpu() == 0).nonzero()[:, 0].tolist()
    if rows.ids.size(0) > 1 or len(starts) < 2 or starts[0] != 0:
        return rows
    ends = [*starts[1:], rows.ids.size(1)]
    sizes = [end - start for start, end in zip(starts, ends, strict=True)]

    def apart(values, fill):
        parts = list(values[0].split(sizes))
        return torch.nn.utils.rnn.pad_sequence(parts, batch_first=True, padding_value=fill)

    whole = torch.ones_like(rows.ids, dtype=torch.bool)
    found = Rows(apart(rows.ids, 0), apart(whole, False), masked=True, documents=True)
    found.ahead, found.certainty = rows.ahead, rows.certainty
    if rows.targets is not None and rows.targets.size(1) == rows.ids.size(1):
        found.targets, found.trained = apart(rows.targets, -1), apart(rows.trained, False)
        found.trained[:, 0] = False  # it belongs to the document before
        found.ahead, found.certainty = offset(found.ids.where(found.real, -1), found.targets)
    return found


def real_in(ids, mask, tokenizer):
    """Return which tokens of ids (B, T) are no padding, as far as mask or tokenizer tell."""
    if isinstance(mask, torch.Tensor) and mask.shape == ids.shape:
        return mask != 0
    pad = getattr(tokenizer, "pad_token_id", None)
    return ids != (-1 if pad is None else pad)


def is_encoder_decoder(seen):
    return getattr(getattr(seen.module, "config", None), "is_encoder_decoder", False)


def answers_of(seen):
    """Return what the decoder of an encoder-decoder has to write, as Rows; None of other models."""
    labels = seen.inputs.get("labels")
    if not is_encoder_decoder(seen) or not isinstance(labels, torch.Tensor) or labels.ndim != 2:
        return None
    labels = labels.cpu()
    counts = labels >= 0
    targets = torch.where(counts, labels, -1)
    return Rows(labels.clamp(min=0), counts, counts, targets, 1, masked=True)


def targets_of(seen, ids):
    """Return what the model had to predict at each place, or None if that was not seen.

    (B, T) or (B, T - 1), -1 where nothing counts.
    """
    keep = seen.inputs.get("logits_to_keep")
    parts = []  # of a loss that is taken in pieces
    for loss in seen.losses:
        if loss.targets.is_floating_point():
            continue
        targets = torch.where(loss.targets == loss.ignore, -1, loss.targets).cpu()
        later = loss.reduction == "none" and not loss.weighed  # what counts is decided later
        if later and (targets >= 0).any():
            return None
        if isinstance(keep, torch.Tensor) and targets.numel() == keep.numel() and ids.size(0) == 1:
            spread = torch.full_like(ids, -1)
            spread[0, keep.cpu()] = targets.flatten()
            return spread
        for width in (ids.size(1), ids.size(1) - 1):
            if targets.numel() == ids.size(0) * width:
                return targets.reshape(ids.size(0), width)
        parts.append(targets)
    return given_targets(seen, ids) if not seen.losses else put_together(parts, ids)


def put_together(parts, ids):
    """Return the targets of a loss that was taken in pieces, along the rows or along the places."""
    number, size = len(ids), sum(part.numel() for part in parts)
    if len(parts) < 2 or size not in (ids.numel(), ids.numel() - number):
        return None
    ways = [torch.cat([part.flatten() for part in parts]).reshape(number, -1)]
    if all(part.numel() % number == 0 for part in parts):
        ways.append(torch.cat([part.reshape(number, -1) for part in parts], 1))
    return max(ways, key=lambda targets: offset(ids, targets)[0] not in (None, OTHER))


def given_targets(seen, ids):
    """Return the targets that the model was given as an input, where it computes the loss."""
    for name in NAMES:
        given = seen.inputs.get(name)
        if isinstance(given, torch.Tensor) and given.shape == ids.shape and given is not seen.ids:
            if given.is_floating_point() or given.dtype is torch.bool:
                continue
            given = torch.where(given.cpu() < 0, -1, given.cpu())
            if "labels" in name:  # the model shifts by itself
                return given[:, 1:]
            return None if offset(ids, given)[0] == 0 else given  # None: it may, or it should have
    return None


def offset(ids, targets):
    """Return (d, margin): most targets[:, i] are ids[:, i + d]; how many more than for d = 1.

    d is None where too few targets count, OTHER where no offset fits.
    """
    shares = {}
    for d in range(-1, 4):
        width = min(targets.size(1), ids.size(1) - d)
        here = targets[:, max(0, -d) : width]
        there = ids[:, max(0, -d) + d : width + d]
        counted = (here >= 0) & (there >= 0)
        if counted.sum() < 8:
            return None, 0.0
        shares[d] = (here == there)[counted].float().mean().item()
    best = max(shares, key=shares.get)
    # correcting typos, for one, is another task
    return (best, shares[best] - shares[1]) if shares[best] > 0.99 else (OTHER, 0.0)
