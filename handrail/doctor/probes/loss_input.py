"""What is the loss given: scores, probabilities or log-probabilities?"""

from collections import Counter

from ..findings import finding

TIMES = 4  # the hooks tell of the first four calls of each loss function


class LossInput:
    """Looks at what goes into loss functions that take a wrong thing without a word."""

    def __init__(self, doctor):
        self.doctor, self.wrong = doctor, Counter()

    def fed(self, kind, values, maker):
        """Scores, probabilities, log-probabilities: each loss function wants one of them."""
        few = values if kind == "ctc_loss" or values.ndim < 3 else values[:, :, :8]
        self.wrong[kind] += bool(is_wrong(kind, few[:64].float(), maker))
        if self.wrong[kind] != TIMES:
            return
        seen = f"in {TIMES} of {TIMES} losses "
        if kind == "binary_cross_entropy_with_logits":
            seen += "they came out of a sigmoid"
            words = {"kind": kind, "what": "sigmoid"}
            yield finding("softmax-twice", seen, self.doctor.updates, **words)
        elif kind == "cross_entropy":
            seen += "every row of the values sums to 1, and none is below 0"
            words = {"kind": kind, "what": "softmax"}
            yield finding("softmax-twice", seen, self.doctor.updates, **words)
        else:
            seen += "the probabilities of a row, exp(values), do not sum to 1"
            given = "scores"
            if kind == "kl_div":
                seen = f"in {TIMES} of {TIMES} losses many of the values were above 0"
                given = "probabilities or scores"
            update = self.doctor.updates
            yield finding("log-softmax-missing", seen, update, kind=kind, given=given)


def is_wrong(kind, values, maker):
    """Return True if a loss function is given what it does not want.

    values: (B, C, ...), for ctc_loss (T, B, C); maker: the operation that made them.
    """
    if kind == "binary_cross_entropy_with_logits":  # scores may all happen to be between 0 and 1
        return maker == "Sigmoid"
    if not values.numel():
        return False
    if kind == "kl_div":
        return (values > 1e-4).float().mean() > 0.1
    if kind == "ctc_loss":
        return values.logsumexp(-1).abs().median() > 0.1
    if values.ndim < 2:
        return False
    if kind == "nll_loss":
        return values.logsumexp(1).abs().median() > 0.1
    sums = values.sum(1)
    return values.size(1) > 1 and (values >= 0).all() and ((sums - 1).abs() < 1e-2).all()
