"""Does the learning rate's schedule move once per update, and for as long as the run?"""

from torch.optim.lr_scheduler import LRScheduler

from ..findings import finding


class Schedule:
    """Counts the calls of scheduler.step() in each update, and follows the learning rate."""

    def __init__(self, doctor):
        self.doctor, self.calls, self.rates = doctor, [], []
        own = doctor.scheduler
        self.kind = type(own).__name__ if isinstance(own, LRScheduler) else ""

    def scheduled(self, scheduler):
        if getattr(scheduler, "_is_initial", False):
            self.kind = type(scheduler).__name__

    def after_step(self, optimizer):
        now = self.doctor.now
        self.calls.append(max(now.scheduled.values(), default=0))
        self.rates.append(now.rate)
        # the call for update n may come before or after its step: the middle is looked at
        steps = min(self.calls[-8:-1], default=0)
        if now.number >= 9 and steps >= 2 and self.kind:
            evidence = (
                f"scheduler.step() was called {steps} times in each of the last updates; the "
                f"learning rate is {now.rate:.3g} now"
            )
            yield finding("scheduler-miscounted", evidence, now.number, steps=steps)
        if now.number >= 6 and not any(self.rates[-5:]) and any(self.rates):
            since = 1 + max(i for i, rate in enumerate(self.rates, 1) if rate)
            evidence = f"it is 0 since update {since:,}"
            yield finding("scheduler-miscounted/ended-early", evidence, now.number)

    def ended(self):
        if self.doctor.cut_short:
            return  # the rest of the schedule was still to come
        self.calls.append(max(self.doctor.now.scheduled.values(), default=0))
        updates, number = self.doctor.updates, len(self.rates)
        if number >= 30 and self.kind and not sum(self.calls):
            evidence = (
                f"{self.kind}: 0 calls of step() in {number} updates, the learning rate stayed "
                f"{self.rates[-1]:.3g}"
            )
            yield finding("scheduler-miscounted/never-moved", evidence, updates)
        if number < 40 or len(self.doctor.steppers) > 1:
            return
        late, highest = self.rates[-number // 2 :], max(self.rates)
        if 0 < max(late) < 1e-2 * highest:
            evidence = (
                f"{highest:.3g} at its highest, {max(late):.3g} and less in the last {len(late)} "
                f"of {number} updates"
            )
            yield finding("scheduler-miscounted/almost-zero", evidence, updates)
        if late == sorted(late) and late[len(late) // 5] < late[-1]:
            evidence = (
                f"it rose in the last {len(late)} of {number} updates, from {late[0]:.3g} to "
                f"{late[-1]:.3g}, and never fell"
            )
            yield finding("scheduler-miscounted/still-warming-up", evidence, updates)
