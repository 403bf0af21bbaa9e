"""What the learning rate does to the loss, and to the weights."""

import math

from ..findings import finding

LATE = 40  # after it the data may have changed as well: other texts, a later stage
AT = (30, 40)  # the updates at which a loss that hardly falls is looked at


class LearningRate:
    """Compares the first losses with the last ones, and the steps with the weights."""

    def __init__(self, doctor):
        self.doctor, self.marks = doctor, 0  # looks in a row at which the loss was above its start

    def after_step(self, optimizer):
        doctor, history, update = self.doctor, self.doctor.history, self.doctor.updates
        if doctor.steppers[id(optimizer)] == update or history.searching():
            self.marks = 0
        if not history.fresh or len(history.losses) < 10:
            return
        # elsewhere, as with rewards, a loss may well rise
        language = history.classes or any(seen.ids is not None for seen in doctor.now.passes)
        writes = history.generated > 0.2 * update  # it learns from what it writes itself
        if not language or writes or not history.mean_like and update > 12:
            return
        yield from self.rises(update)
        if update in AT:
            yield from self.hardly_falls(update)

    def rises(self, update):
        history = self.doctor.history
        losses, start = history.losses, history.losses[0]
        now = history.recent(5)
        above = math.isfinite(now) and now > 1.15 * start + 0.05 and start > 0
        self.marks = self.marks + 1 if above and self.doctor.now.losses else 0
        late = update > LATE
        humps = [sum(losses[i : i + 3]) / 3 for i in range(1, len(losses) - 2) if not late]
        if max(humps, default=0) > 1.25 * start + 0.5:
            self.marks += 2
        step = max((ratio for _, _, ratio in history.steps), default=0)
        if history.steps and step < 1e-4:
            return  # the weights hardly move
        if not history.classes and step <= 0.1 and now <= 20 * abs(start):
            return
        far = math.isfinite(now) and now > 3 * abs(start) + 0.5
        if not far and (self.marks < 2 or late):
            return
        rate = max(history.rates)
        evidence = f"loss {start:.3f} at update 1, {now:.3f} now; learning rate {rate:.3g}"
        knew = history.classes > 32 and start < 0.75 * math.log(history.classes)
        if knew and not self.doctor.has_lora() and not late:
            yield finding("rate-of-the-other-method", evidence, update)
            return
        # a loss of another kind may grow with what it is given, as with longer rows
        unsure = late or not history.classes and now < 20 * abs(start)
        evidence += f"; an update changes a matrix by {step:.1%} of its size"
        name = "rate-too-high/or-harder-data" if unsure else "rate-too-high"
        if not above and not far and not late:
            name, evidence = "rate-too-high/came-back", f"{evidence}; in between, {max(humps):.3f}"
        yield finding(name, evidence, update)

    def hardly_falls(self, update):
        doctor, history = self.doctor, self.doctor.history
        start, now, rate = history.losses[0], history.recent(5), max(history.rates)
        head, tail = sum(history.losses[:5]) / 5, history.recent()
        recent = max(history.rates[-10:])  # not the steps of a search for the rate
        step = max((r for age, lr, r in history.steps if age >= 10 and lr <= recent), default=0)
        losses = f"learning rate {rate:.3g}; loss {start:.3f} → {now:.3f}"
        if step > 0.2 and head - tail < 0.35 * start:
            evidence = f"{step:.0%} of a matrix's size in one update, {losses}"
            yield finding("rate-too-high/large-steps", evidence, update)
        if head - tail < 0.08 * head and rate < 5.1e-5 and doctor.has_lora():
            evidence = f"{losses} in {update} updates"
            yield finding("rate-of-the-other-method/lora", evidence, update)
        elif head - tail < 0.02 * head and 0 < step < 5e-4 and not doctor.knew():
            if 0 < history.rates[-1] <= history.rates[-6]:
                evidence = f"an update changes a matrix by {step:.1e} of its size, {losses}"
                name = "rate-too-low/clipped" if history.tight > 30 else "rate-too-low"
                yield finding(name, evidence, update, tight=history.tight)
