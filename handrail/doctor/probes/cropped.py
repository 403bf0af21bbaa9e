"""A text is written token by token: does the model read the new tokens?"""

import torch

from ..findings import finding
from ..hooks import bare

GROWN = 4  # calls in a row in which the text grew by one token
SAME = 8  # calls in a row with the same tokens


class Cropped:
    """Follows the rows that the model reads while it writes, until they stop growing."""

    def __init__(self, doctor):
        self.doctor, self.longest = doctor, 0  # tokens in a row that was trained on
        self.start = self.ids = None  # the text when it began to grow; the last that was read
        self.grown = self.same = 0

    def passed(self, seen):
        if seen.grad and seen.ids is not None:
            self.longest = max(self.longest, seen.ids.size(1))

    def answered(self, seen, output):
        """A pass without gradients: the last text with one more token, or the last text again."""
        ids, before = seen.ids, self.ids
        if ids is None or bare(seen.module) is not self.doctor.trained:
            return
        self.ids = ids.clone()
        more = None if before is None or len(ids) != len(before) else ids.size(1) - before.size(1)
        if more == 1 and not self.same:
            self.start = self.start if self.grown else before
            self.grown += 1
        elif more == 0 and self.grown >= GROWN and ids.size(1) >= self.longest > 0:
            # read only here: a window that moves on is another text at its first step
            self.same = self.same + 1 if torch.equal(ids, before) else 0
            self.grown *= self.same > 0
            if self.same == SAME - 1 and self.stands_still():
                evidence = (
                    f"a text grew from {self.start.size(1)} to {ids.size(1)} tokens, one a call; "
                    f"then the model was given the same {ids.size(1)} tokens {SAME} times"
                )
                yield finding("context-stands-still", evidence, self.doctor.updates)
        else:
            self.grown = self.same = 0

    def stands_still(self):
        """Return True if it is one text that grew, and no window over tokens that are all equal."""
        begins = torch.equal(self.ids[:, : self.start.size(1)], self.start)
        return begins and not torch.equal(self.ids[:, 1:], self.ids[:, :-1])
