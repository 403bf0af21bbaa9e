"""Is the learning rate's schedule moved in the units that it was made for?"""

from ..findings import finding

PLANS = ("total_steps", "T_max")  # what PyTorch's schedulers call their length
SHORT = 30  # updates of a run that is too short to tell


class Planned:
    """Compares the length that a schedule was made for with its steps, and with the updates."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.plans = {}  # id(scheduler): (its kind, the length it was made for)
        self.steps = {}  # id(scheduler): calls of its step
        self.said = False

    def scheduled(self, scheduler):
        number = id(scheduler)
        if getattr(scheduler, "_is_initial", False):
            self.steps[number] = 0
            return
        self.steps[number] = self.steps.get(number, 0) + 1
        if number not in self.plans:
            self.plans[number] = type(scheduler).__name__, length_of(scheduler)
        kind, length = self.plans[number]
        if kind == "CosineAnnealingLR" and self.steps[number] == 3 * length > 0 and not self.said:
            self.said = True
            evidence = (
                f"{kind} was made for {length:,} steps and has been moved {3 * length:,} times: "
                f"the rate has gone down, up and down again"
            )
            yield finding("scheduler-miscounted/starts-over", evidence, self.doctor.updates)

    def ended(self):
        updates = self.doctor.updates
        steps = sum(self.steps.values())  # a resumed run makes its schedule anew
        for kind, length in self.plans.values():
            if updates >= SHORT and 0 < steps <= 0.5 * length and abs(length - updates) <= 1:
                evidence = (
                    f"{kind} was made for {length:,} steps, which is the number of updates, and "
                    f"was moved {steps:,} times in them"
                )
                yield finding("scheduler-miscounted/per-epoch", evidence, updates)


def length_of(scheduler):
    """Return the number of steps that a schedule was made for, 0 if it does not say."""
    for name in PLANS:
        if isinstance(length := getattr(scheduler, name, None), int):
            return length
    functions = getattr(scheduler, "lr_lambdas", [None])
    given = getattr(functions[0], "keywords", {})  # Transformers' schedules are partial functions
    length = given.get("num_training_steps")
    return length if isinstance(length, int) else 0
