"""The rows of one forward pass as the loss sees them: which tokens are read, which are real, which are learned."""

from dataclasses import dataclass

import torch

OTHER = -9  # the targets are no tokens of the row: another task


@dataclass
class Rows:
    """One batch, on the CPU: token ids (B, T), real (B, T) (no padding), trained (B, T) or None where no loss was seen."""

    ids: torch.Tensor
    real: torch.Tensor
    trained: torch.Tensor | None = None
    targets: torch.Tensor | None = (
        None  # what has to be predicted at each place, -1 where nothing counts
    )
    ahead: int | None = (
        None  # by how many places the targets run ahead of the tokens read: 1 is right; None: too few to tell
    )
    certainty: float = 0.0  # how much better that offset fits than 1
    masked: bool = False  # the caller said which tokens are real
    documents: bool = False  # they were laid end to end, and are apart again
    turned: bool = False  # the model reads (T, B)

    def lists(self):
        """Return each row's real tokens as a list."""
        return [row[keep].tolist() for row, keep in zip(self.ids, self.real)]


def rows_of(seen):
    """Return the Rows of a Pass, or None if it reads no tokens. Several probes ask: they are made once, and anew when a loss was heard."""
    if seen.rows is None or seen.rows[0] != len(seen.losses):
        seen.rows = (len(seen.losses), made(seen))
    return seen.rows[1]


def made(seen):
    ids = seen.ids
    if ids is None:
        return None
    ids = ids.detach().cpu().long()
    mask = seen.inputs.get("attention_mask")
    masked = isinstance(mask, torch.Tensor) and mask.shape == ids.shape
    rows = Rows(
        ids, mask.cpu().bool() if masked else torch.ones_like(ids, dtype=torch.bool), masked=masked
    )
    both = getattr(
        getattr(seen.module, "config", None), "is_encoder_decoder", False
    )  # what it reads is not what it goes on from
    targets = None if both else targets_of(seen, ids)
    if targets is not None:
        rows.ahead, rows.certainty = offset(ids, targets)
        if (
            rows.ahead == OTHER
            and targets.shape == ids.shape
            and (turned := offset(ids.T, targets.T))[0] in (0, 1, 2)
        ):
            ids, targets = ids.T, targets.T
            rows = Rows(
                ids, torch.ones_like(ids, dtype=torch.bool), None, None, *turned, turned=True
            )
        rows.targets = targets
        rows.trained = torch.zeros_like(ids, dtype=torch.bool)
        width = min(ids.size(1) - 1, targets.size(1))
        rows.trained[:, 1 : width + 1] = targets[:, :width] >= 0
    return apart(rows, seen.inputs.get("position_ids"))


def apart(rows, positions):
    """Return the documents of one packed row as rows of their own, where positions that begin anew tell them apart."""
    if (
        not isinstance(positions, torch.Tensor)
        or positions.shape != rows.ids.shape
        or rows.ids.size(0) > 1
    ):
        return rows
    starts = (positions[0].cpu() == 0).nonzero()[:, 0].tolist()
    if len(starts) < 2 or starts[0] != 0:
        return rows
    sizes = [b - a for a, b in zip(starts, [*starts[1:], rows.ids.size(1)])]
    spread = lambda values, fill: torch.nn.utils.rnn.pad_sequence(
        [part for part in values[0].split(sizes)], batch_first=True, padding_value=fill
    )
    whole = torch.ones_like(rows.ids, dtype=torch.bool)
    found = Rows(
        spread(rows.ids, 0),
        spread(whole, False),
        ahead=rows.ahead,
        certainty=rows.certainty,
        masked=True,
        documents=True,
    )
    if rows.targets is not None and rows.targets.size(1) == rows.ids.size(1):
        found.targets, found.trained = spread(rows.targets, -1), spread(rows.trained, False)
        found.trained[:, 0] = False  # it belongs to the document before
        found.ahead, found.certainty = offset(found.ids.where(found.real, -1), found.targets)
    return found


def answers_of(seen):
    """Return what the decoder of an encoder-decoder has to write, as Rows; None of any other model."""
    labels = seen.inputs.get("labels")
    if (
        not getattr(getattr(seen.module, "config", None), "is_encoder_decoder", False)
        or not isinstance(labels, torch.Tensor)
        or labels.ndim != 2
    ):
        return None
    labels = labels.cpu()
    counts = labels >= 0
    return Rows(
        labels.clamp(min=0), counts, counts, torch.where(counts, labels, -1), 1, masked=True
    )


def targets_of(seen, ids):
    """Return what the model had to predict at each place (B, T) or (B, T - 1), -1 where nothing counts; None if not seen."""
    keep = seen.inputs.get("logits_to_keep")
    for loss in seen.losses:
        targets = loss.targets.cpu()
        targets = (
            torch.where(targets == loss.ignore, -1, targets)
            if not targets.is_floating_point()
            else None
        )
        if targets is None:
            continue
        if isinstance(keep, torch.Tensor) and targets.numel() == keep.numel() and ids.size(0) == 1:
            spread = torch.full_like(ids, -1)
            spread[0, keep.cpu()] = targets.flatten()
            return spread
        if loss.reduction == "none":  # what of it counts is decided later, out of sight
            return None
        for width in (ids.size(1), ids.size(1) - 1):
            if targets.numel() == ids.size(0) * width:
                return targets.reshape(ids.size(0), width)
    labels = seen.inputs.get("labels")
    if (
        not seen.losses and isinstance(labels, torch.Tensor) and labels.shape == ids.shape
    ):  # the model shifts by itself
        return torch.where(labels.cpu() < 0, -1, labels.cpu())[:, 1:]
    given = seen.inputs.get("targets")  # nanoGPT's own name, where a compiled graph hides the loss
    if not seen.losses and isinstance(given, torch.Tensor) and given.shape == ids.shape:
        return torch.where(given.cpu() < 0, -1, given.cpu())
    return None


def offset(ids, targets):
    """Return (d, margin): targets[:, i] are most often ids[:, i + d], and by which share of them better than for d = 1."""
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
    return (
        (best, shares[best] - shares[1]) if shares[best] > 0.99 else (OTHER, 0.0)
    )  # mending typos, for one, is another task
