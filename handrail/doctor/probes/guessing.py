"""Probe I: what the loss is given, and whether anything is learned at all: as true of classes as of tokens."""

import math
from collections import Counter

import torch

from ..findings import Finding

BLOCK = 6  # updates of one class in a row
LAYERS = (
    "Addmm",
    "Mm",
    "Bmm",
    "Baddbmm",
    "Convolution",
    "Embedding",
    "NativeLayerNorm",
    "ScaledDotProduct",
    "AccumulateGrad",
)  # where a model ends, seen from the loss
WRONG = {  # what a loss function is not to be given: (B, C, ...), for ctc_loss (T, B, C)
    "cross_entropy": lambda x: (
        x.ndim > 1 and x.size(1) > 1 and (x >= 0).all() and ((x.sum(1) - 1).abs() < 1e-2).all()
    ),
    "nll_loss": lambda x: x.ndim > 1 and x.logsumexp(1).abs().median() > 0.1,
    "ctc_loss": lambda x: x.logsumexp(-1).abs().median() > 0.1,
    "kl_div": lambda x: (x > 1e-4).float().mean() > 0.1,
}


class Guessing:
    """Looks at what goes into cross_entropy, at the classes from update to update, and at the loss beside that of guessing."""

    def __init__(self, doctor):
        self.doctor, self.wrong, self.blocks, self.ends = doctor, Counter(), [], []
        self.under_scale, self.still_scaled, self.ratios, self.values, self.paired = (
            False,
            0,
            [],
            [],
            0,
        )

    def fed(self, kind, values, maker):
        """Scores, chances, logarithms of chances: each loss function wants one of them, and takes the others without a word."""
        few = (
            values[:64] if kind == "ctc_loss" or values.ndim < 3 else values[:64, :, :8]
        )  # logits can be many
        sigmoid = (
            kind == "binary_cross_entropy_with_logits"
        )  # scores may all happen to lie between 0 and 1
        self.wrong[kind] += (
            maker == "Sigmoid" if sigmoid else few.numel() > 0 and bool(WRONG[kind](few.float()))
        )
        if self.wrong[kind] != 4:  # Hooks tell of the first four of a kind
            return
        if kind in ("nll_loss", "ctc_loss", "kl_div"):
            seen = (
                "many of the values lie above 0, where no logarithm of a chance is"
                if kind == "kl_div"
                else "the chances of a row, exp(values), do not sum to 1"
            )
            yield Finding(
                "log-softmax-missing",
                "certain",
                f"{kind} is given {'chances or ' * (kind == 'kl_div')}scores; it wants logarithms of chances, and can be driven below 0 without anything being learned.",
                f"in 4 of 4 losses {seen}",
                [("log_softmax is missing before it", 0.95)],
                "F.log_softmax(scores, dim) first"
                + "; cross_entropy takes both steps at once" * (kind != "kl_div"),
                self.doctor.updates,
            )
        else:
            what = "softmax" if kind == "cross_entropy" else "sigmoid"
            seen = (
                "every row of the values sums to 1, none is below 0"
                if kind == "cross_entropy"
                else "they came out of a sigmoid"
            )
            yield Finding(
                "softmax-twice",
                "certain",
                f"The loss is given chances, not scores: {kind} takes the {what} itself, so it is taken twice, and the loss can never come near 0.",
                f"in 4 of 4 losses {seen}",
                [(f"the model ends in a {what}", 0.95)],
                f"return the scores (logits); take the {what} only to read the chances",
                self.doctor.updates,
            )

    def traced(self, node):
        """One number for each row and one answer for each row, of two shapes, make all pairs: every row is compared with every answer."""
        rows = max(map(all_pairs, place_by_place(node)))
        self.paired += rows > 0
        if rows and self.paired == 3:
            yield Finding(
                "loss-broadcast",
                "warning",
                "The loss compares every row with the answer of every other row: what it learns is the mean of all answers.",
                f"({rows}, 1) and ({rows},) were put together to ({rows}, {rows}) on the way to the loss",
                [
                    (
                        "the model's output has a last dimension of 1, and the answers have none (or the other way round)",
                        0.9,
                    ),
                    ("all pairs are meant, as for a distance between distributions", 0.1),
                ],
                "output.squeeze(-1), or answers.unsqueeze(-1); print both shapes",
                self.doctor.updates,
            )

    # --- gradients: scaled, clipped ---

    def scaled(self, enabled):
        self.under_scale = enabled

    def unscaled(self):
        self.under_scale = False

    def clipped(self, norm, most):
        norm, most = float(norm), float(most)
        self.still_scaled += self.under_scale and most < math.inf
        self.ratios.append(norm / max(most, 1e-30))
        if self.still_scaled == 3:
            yield Finding(
                "clipped-while-scaled",
                "certain",
                "Gradients are clipped while they are still multiplied by the scaler's factor: what is left of them is almost nothing.",
                f"clip_grad_norm_ came 3 times between scaler.scale(...) and scaler.unscale_, the last norm was {norm:.3g}, the limit {most:.3g}",
                [("scaler.unscale_(optimizer) is missing, or comes too late", 0.95)],
                "scaler.unscale_(optimizer), then clip_grad_norm_, then scaler.step(optimizer)",
                self.doctor.updates,
            )

    def tight(self):
        """Return how many times longer than the limit of clipping a gradient usually is."""
        return sorted(self.ratios)[len(self.ratios) // 2] if self.ratios else 0

    # --- classes, and the loss ---

    def after_step(self, optimizer):
        heard = [
            loss
            for seen in self.doctor.now.passes
            for loss in seen.losses
            if not loss.targets.is_floating_point() and loss.value.ndim == 0
        ]
        if not heard:
            return
        self.values = [*self.values[-19:], *((loss.value, loss.classes) for loss in heard)][-20:]
        targets = heard[0].targets
        self.ends.append(
            torch.stack(targets.aminmax())
            if len(heard) == 1 and targets.ndim == 1 and len(targets) >= 8
            else torch.tensor([0, 1], device=targets.device)
        )
        if len(self.ends) == 10:  # to read them back makes a GPU wait
            seen, self.ends = torch.stack(self.ends).tolist(), []
            yield from self.sorted_by_class([low if low == high else None for low, high in seen])

    def sorted_by_class(self, classes):
        """The class that an update saw alone, or None, for update after update."""
        for one in classes:
            if self.blocks and self.blocks[-1][0] == one:
                self.blocks[-1][1] += 1
            else:
                self.blocks = [*self.blocks[-999:], [one, 1]]
        long = [one for one, length in self.blocks if one is not None and length >= BLOCK]
        if len(set(long)) >= 2 and sum(
            length for one, length in self.blocks if one is not None
        ) > 0.6 * sum(length for _, length in self.blocks):
            yield Finding(
                "sorted-by-class",
                "warning",
                "The classes come one after the other: each update pulls all answers towards the one class that it sees.",
                f"batches of class {long[0]} alone, then of class {long[-1]} alone, {BLOCK} updates and more in a row each",
                [
                    ("the data is sorted by class and not shuffled", 0.9),
                    ("classes are taught one by one on purpose", 0.1),
                ],
                "DataLoader(..., shuffle=True), or shuffle the rows before splitting them",
                self.doctor.updates,
            )

    def ended(self):
        """Nothing learned: at the end the loss is still that of guessing. Of two models that play against each other it may well be."""
        values = self.values
        if (
            self.doctor.updates < 60
            or len(values) < 20
            or len({classes for _, classes in values}) > 1
            or len(self.doctor.steppers) > 1
        ):
            return
        guess, last = (
            math.log(values[-1][1]) if values[-1][1] > 1 else 0,
            float(torch.stack([value for value, _ in values]).mean()),
        )
        lowest = min(
            (loss for probe in self.doctor.probes for loss in getattr(probe, "losses", [])),
            default=guess,
        )  # below it: something was learned, and another task came
        if guess and 0.995 * guess < last < 1.05 * guess and lowest > 0.8 * guess:
            tight = self.tight()
            causes = [
                (
                    "the answers do not belong to the inputs: one of the two was shuffled, sorted or shifted alone",
                    0.5,
                ),
                (
                    "the learning rate, or what clipping leaves of the gradients, is far too small",
                    0.3,
                ),
                ("the task cannot be learned from these inputs", 0.2),
            ]
            if tight > 30:
                causes = [
                    (f"gradients are clipped to a {tight:,.0f}th of their length", 0.6),
                    *((cause, share * 0.4) for cause, share in causes[::2]),
                ]
            yield Finding(
                "nothing-learned",
                "warning",
                "At the end the model does no better than guessing.",
                f"the loss is {last:.3f} after {self.doctor.updates:,} updates, ln {values[-1][1]:,} = {guess:.3f} is that of a guess",
                causes,
                "print ten inputs with their answers, from the very batch that the model gets; then overfit one batch",
                self.doctor.updates,
            )


def place_by_place(node, most=40):
    """Yield the steps between the loss and the model's last layer, the loss first."""
    steps = [node]
    for step in steps:
        yield step
        if len(steps) < most:
            steps += [
                inner
                for inner, _ in step.next_functions
                if inner is not None and not type(inner).__name__.startswith(LAYERS)
            ]


def all_pairs(step):
    """Return B if a step made (B, B) of (B, 1) and (B,), of which one learns and one is given; else 0."""
    learns = [inner for inner, _ in step.next_functions if inner is not None]
    name, shape = type(step).__name__, lambda node: tuple(node._input_metadata[0].shape)
    if len(learns) != 1 or not name.startswith(("Sub", "Mul")) and "Loss" not in name:
        return 0
    given = getattr(
        step, "_saved_other", None
    )  # of a product only; (B, B) of its own accord is no mistake
    wide = type(learns[0]).__name__.startswith("Expand")
    made, of = (
        shape(learns[0] if wide else step),
        shape(learns[0].next_functions[0][0] if wide else learns[0]),
    )
    rows = made[0] if made else 0
    return (
        rows
        if rows > 1
        and made == (rows, rows)
        and of in ((rows,), (rows, 1))
        and (given is None or given.numel() == rows)
        else 0
    )
