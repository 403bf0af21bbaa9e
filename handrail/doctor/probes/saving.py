"""Is what was saved the model that was trained, and can others use it?"""

import os
from pathlib import Path

import torch

from ..findings import finding
from ..no_trace import no_trace, silence
from ..saved import without_tokenizer
from ..token_rows import rows_of

MOVED = 1e-3  # logits differ if by more than this share of the largest
ROUNDED = 0.05  # the same, of equal weights: one of the two may calculate in 16 bits


class Saving:
    """Keeps the logits of each model that is saved, and loads it again at the end."""

    def __init__(self, doctor):
        self.doctor, self.folders = doctor, {}  # folder: (model, ids, its logits then)
        self.last = None  # ids that were read last

    def after_step(self, optimizer):
        passes = self.doctor.now.passes
        if passes and rows_of(passes[-1]) is not None:
            self.last = passes[-1].ids

    def saved(self, model, folder, state):
        """It may be trained on, so its logits are kept now; not of an average of weights, say."""
        other = any(
            name in state and not torch.equal(state[name].to(p), p)
            for name, p in model.named_parameters()
        )
        ids = None if self.last is None or other else self.last[:1]
        before = None if ids is None else logits(model, ids)
        self.folders[os.path.abspath(folder)] = (model, ids, before)

    def ended(self):
        latest, self.folders = list(self.folders.items())[-2:], {}
        for place, (model, ids, before) in latest:
            # it may have been written under another name, then moved to its place
            folder = Path(place if os.path.isdir(place) else os.path.splitext(place)[0])
            if not folder.is_dir() or self.doctor.rank:
                continue
            whole = self.last is not None and self.doctor.tokenizer is not None
            if whole and place == latest[-1][0]:
                if not any(folder.parent.glob("tokenizer*/tokenizer*")):
                    yield from without_tokenizer(folder, self.doctor.updates)
            alone = os.environ.get("WORLD_SIZE", "1") == "1"
            if before is not None and alone and (folder / "config.json").exists():
                yield from self.reloaded(folder, model, ids, before)

    def reloaded(self, folder, model, ids, before):
        """Load what was saved, and compare its logits with those of then."""
        update, some = self.doctor.updates, next(model.parameters())
        try:
            with silence(), torch.random.fork_rng([]):
                again = type(model).from_pretrained(folder, dtype=some.dtype).to(some.device)
        except (OSError, ValueError) as error:
            yield finding("reload-differs/unreadable", f"{folder}: {error!r}"[:300], update)
            return
        gap = (before - logits(again, ids)).abs().max().item()
        theirs = dict(again.named_parameters())
        differ = [
            name
            for name, p in model.named_parameters()
            if name in theirs and not is_same(p, theirs[name])
        ]
        if gap > (MOVED if differ else ROUNDED) * before.abs().max().item():
            what = (
                f"weights differ in {', '.join(differ[:4])}" if differ else "the weights are equal"
            )
            evidence = f"{folder}: logits differ by up to {gap:.2g}; {what}"
            yield finding("reload-differs", evidence, update)


def is_same(mine, theirs):
    same = mine.shape == theirs.shape
    return same and torch.allclose(mine.float(), theirs.float(), atol=1e-5)


def logits(model, ids):
    """Return the model's logits for a row, or None if it gives none for token ids alone."""
    with no_trace(model):
        try:
            return model(input_ids=ids).logits.float()
        except (TypeError, AttributeError, ValueError, RuntimeError):
            return None
