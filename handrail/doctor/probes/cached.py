"""A text that is written token by token, with a cache: does the model say the same of all of it?"""

import torch

from ..extra_pass import of_tokens, run
from ..findings import finding
from ..hooks import IDS, bare, grouped, tensors_in

ROWS, TOKENS, TEXTS = 4, 3, 3  # that are looked at
APART = 0.05  # of the spread of the logits: rounding moves them less


class Cached:
    """Follows single tokens after a prompt, then runs the model once on the whole text."""

    def __init__(self, doctor):
        self.doctor, self.texts, self.longest = doctor, 0, 0
        self.fed, self.said = [], []  # a prompt and the tokens after it; the logits after each

    def passed(self, seen):
        if seen.grad and seen.ids is not None:
            self.longest = max(self.longest, seen.ids.size(1))

    def answered(self, seen, output):
        """A pass without gradients: a prompt starts a text, single tokens continue it."""
        given, model = seen.inputs, bare(seen.module)
        name = next((name for name in [*IDS, *given] if of_tokens(given.get(name))), None)
        ids = given.get(name)
        logits = None if ids is None else last(tensors_in(output), ids)
        ours = model is self.doctor.trained and not seen.training and not grouped()
        if logits is None or ids.size(1) > 1 or self.fed and len(ids) != len(self.fed[0]):
            self.fed, self.said = [], []
        if logits is None or not ours or self.texts == TEXTS:
            return
        if not self.fed and ids.size(1) == 1:
            return
        # only the likeliest token is known to continue this text: another may be of a search
        if len(self.fed) < 2 or torch.equal(self.said[-1].argmax(1), ids[:ROWS, 0]):
            self.fed.append(ids.clone())
            self.said.append(logits[:ROWS].clone())
            if len(self.fed) <= TOKENS:
                return
        yield from self.compare(model, name)

    def compare(self, model, name):
        prompt, *tokens = (ids[:ROWS] for ids in self.fed)
        self.fed, self.texts = [], self.texts + 1
        texts = [prompt, torch.cat(tokens), torch.cat([prompt, *tokens], 1)]
        if texts[2].size(1) > self.longest:
            return  # the model may have no more positions: on a GPU, that ends the program
        found = [last(run(model, {name: ids}), ids) for ids in texts]
        if any(logits is None for logits in found):
            return
        start, alone, whole = found
        spread = float(whole.max() - whole.min())

        def far(one, other):
            return (one - other).abs().amax(1) > APART * spread

        continued = far(alone, torch.cat(self.said[1:])).reshape(len(tokens), -1).any(1)
        if far(start, self.said[0]).any() or not continued.all():
            return  # the model keeps a state in itself, or a token was a text of its own
        if far(whole, self.said[-1]).any():
            gap = float((whole - self.said[-1]).abs().max())
            evidence = (
                f"after {len(tokens)} tokens that were fed one by one, the logits are up to "
                f"{gap:.2g} away from those of one pass over the whole text; all of them lie "
                f"within {spread:.2g}"
            )
            yield finding("cache-differs", evidence, self.doctor.updates)


def last(values, ids):
    """Return the logits (B, V) after the last of some ids, or None."""
    for value in values:
        if value.is_floating_point() and value.ndim == 3 and len(value) == len(ids):
            return value[:, -1].float() if value.size(1) in (1, ids.size(1)) else None
    return None
