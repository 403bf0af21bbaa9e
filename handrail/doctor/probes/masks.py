"""Does the attention mask hide padding, or text?"""

import torch

from ..findings import finding

LOOKED_AT = 24  # updates


class Masks:
    """Compares the mask of each pass with where the rows are filled up."""

    def __init__(self, doctor):
        self.doctor = doctor

    def after_step(self, optimizer):
        if self.doctor.now.age > LOOKED_AT:
            return
        for seen in self.doctor.now.passes:
            keep = mask_of(seen)
            if keep is not None:
                yield from self.compared(seen.ids.cpu(), keep)

    def compared(self, ids, keep):
        """A mask that keeps the padding and hides text: upside down, or at the other end."""
        pad = torch.cat([ids[:, 0], ids[:, -1]]).mode().values  # how most rows start or end
        pads = ids == pad
        counts, hidden = pads.sum(1), ids[~keep & ~pads]
        at_ends = pads.cummin(1).values | pads.flip(1).cummin(1).values.flip(1)
        kept = int((keep & pads).sum())
        if (pads & ~at_ends).any() or counts.max() < 3 or len(counts.unique()) < 2:
            return  # it is also a word of the text, or the rows are not filled up
        if not len(hidden) or kept < 0.5 * pads.sum():
            return
        if len(hidden.unique()) >= 5 and len(hidden) >= 0.3 * pads.sum():
            evidence = (
                f"of {int(pads.sum())} positions with {self.doctor.decode([pad])} at an end of the "
                f"rows, {kept} are kept; of {int((~pads).sum())} others, {len(hidden)} are hidden"
            )
            yield finding("mask-misplaced", evidence, self.doctor.updates)


def mask_of(seen):
    """Return the mask of a Pass as True for what is read (B, T), or None."""
    if seen.ids is None:
        return None
    keep = seen.inputs.get("attention_mask")
    if seen.hidden is not None and seen.hidden.shape == seen.ids.shape:
        keep = ~seen.hidden if seen.hidden.dtype is torch.bool else seen.hidden == 0
    if not isinstance(keep, torch.Tensor) or keep.shape != seen.ids.shape:
        return None
    return None if keep.is_floating_point() else keep.cpu().bool()
