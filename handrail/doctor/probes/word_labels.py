"""Are labels by word laid over subword tokens?"""

from statistics import median

from ..findings import finding
from ..token_rows import OTHER, rows_of

LOOKED_AT = 4  # updates
FEW = 8  # rows


class WordLabels:
    """Looks for labels that begin at the first special token and end before the last words."""

    def __init__(self, doctor):
        self.doctor = doctor

    def after_step(self, optimizer):
        doctor = self.doctor
        first = getattr(doctor.tokenizer, "cls_token_id", None)
        if doctor.now.age > LOOKED_AT or first is None:
            return
        for seen in doctor.now.passes:
            rows = rows_of(seen)
            if rows is None or rows.ahead != OTHER or rows.targets.shape != rows.ids.shape:
                continue
            if not rows.masked or len(rows.ids) < FEW or not bool((rows.ids[:, 0] == first).all()):
                continue
            labelled, real = (rows.targets >= 0), rows.real.sum(1)
            number = labelled.sum(1)
            without_gaps = labelled.cumprod(1).sum(1) == number
            short = without_gaps & (number < real - 2)  # without those that end a row
            if without_gaps.all() and short.float().mean() > 0.5 and len(set(number.tolist())) > 2:
                usual = median(number.tolist()), median(real.tolist())
                evidence = (
                    f"in {int(short.sum())} of {len(short)} rows; of the usual {usual[1]:.0f} "
                    f"tokens the first {usual[0]:.0f} have labels, {doctor.decode([first])} too"
                )
                yield finding("labels-by-word", evidence, doctor.now.number)
