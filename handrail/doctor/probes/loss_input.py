"""What is the loss given: scores, probabilities, or shapes that do not match?"""

from collections import Counter

from ..findings import finding

TIMES = 4  # the hooks tell of the first four calls of each loss function
LAYERS = (  # where a model ends, seen from the loss
    "Addmm",
    "Mm",
    "Bmm",
    "Baddbmm",
    "Convolution",
    "Embedding",
    "NativeLayerNorm",
    "ScaledDotProduct",
    "AccumulateGrad",
)


class LossInput:
    """Looks at what goes into loss functions that take a wrong thing without a word."""

    def __init__(self, doctor):
        self.doctor, self.wrong, self.paired = doctor, Counter(), 0

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

    def traced(self, node):
        """(B, 1) against (B,) makes all pairs: every row is compared with every answer."""
        rows = max(map(all_pairs, after_last_layer(node)))
        self.paired += rows > 0
        if rows and self.paired == 3:
            evidence = f"on the way to the loss, ({rows}, 1) and ({rows},) became ({rows}, {rows})"
            yield finding("loss-broadcast", evidence, self.doctor.updates)


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


def after_last_layer(node, most=40):
    """Yield the operations between the model's last layer and the loss, the loss first."""
    steps = [node]
    for step in steps:
        yield step
        inner = [n for n, _ in step.next_functions if n is not None]
        if len(steps) < most:
            steps += [n for n in inner if not type(n).__name__.startswith(LAYERS)]


def all_pairs(step):
    """Return B if an operation made (B, B) of (B, 1) and (B,), one learned, one given; else 0."""
    learned = [inner for inner, _ in step.next_functions if inner is not None]
    name = type(step).__name__
    if len(learned) != 1 or not name.startswith(("Sub", "Mul")) and "Loss" not in name:
        return 0
    wide = type(learned[0]).__name__.startswith("Expand")
    made = shape_of(learned[0] if wide else step)
    source = shape_of(learned[0].next_functions[0][0] if wide else learned[0])
    given = getattr(step, "_saved_other", None)  # of a product only
    rows = made[0] if made else 0
    if rows < 2 or made != (rows, rows) or source not in ((rows,), (rows, 1)):
        return 0
    # (B, B) that was given as such is no mistake
    return rows if given is None or given.numel() == rows else 0


def shape_of(node):
    return tuple(node._input_metadata[0].shape)
