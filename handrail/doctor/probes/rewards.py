"""What TRL's trainers log about the rewards."""

import math
from statistics import mean

from ..findings import finding

NAMES = ("frac_reward_zero_std", "rewards/frac_reward_zero_std")
PAIRS = ("loss", "rewards/accuracies", "rewards/margins", "rewards/chosen", "rewards/rejected")
LONG = 40  # updates


class Rewards:
    """Looks for rewards that are all the same, and for preferred answers that become unlikely."""

    def __init__(self, doctor):
        self.doctor, self.alike = doctor, []  # share of the groups whose rewards are all the same
        self.pairs = []  # (update of this training, what PAIRS name)

    def logged(self, logs):
        update, chosen = self.doctor.updates, logs.get("rewards/chosen")
        if all(name in logs for name in PAIRS):
            now = len(self.doctor.history.rates)
            self.pairs = [pair for pair in self.pairs if pair[0] < now]  # else of another training
            self.pairs.append((now, *(float(logs[name]) for name in PAIRS)))
        if chosen is not None and float(chosen) < -2 and not are_likelihoods(logs):
            rate = max(self.doctor.history.rates, default=0)
            rejected = float(logs.get("rewards/rejected", 0))
            evidence = (
                f"rewards/chosen {float(chosen):.2f}, rewards/rejected {rejected:.2f}; learning "
                f"rate {rate:.3g}"
            )
            yield finding("rate-too-high/preferences", evidence, update)
        alike = next((logs[name] for name in NAMES if name in logs), None)
        if alike is None and "reward_std" in logs:
            alike = logs["reward_std"] == 0
        if alike is None:
            return
        self.alike.append(float(alike))
        if len(self.alike) >= 3 and min(self.alike[-3:]) >= 0.99:
            evidence = "in no group of the last logged updates do the rewards differ"
            yield finding("reward-without-spread", evidence, update)

    def ended(self):
        """The loss of preferences is ln 2, and the better answer is right half of the time."""
        updates = len(self.doctor.history.rates)
        late = [pair[1:] for pair in self.pairs if pair[0] > updates / 2]
        if updates < LONG or not late or abs(self.pairs[0][1] - math.log(2)) > 0.1:
            return
        loss, right, margin, *rewards = map(mean, zip(*late, strict=True))
        even = abs(margin) < max(0.02, 0.1 * max(map(abs, rewards)))
        if even and 0.42 < right < 0.58 and loss > 0.97 * math.log(2):
            evidence = (
                f"in the second half of {updates:,} updates, the chosen answer gets the higher "
                f"reward in {right:.0%} of the pairs, by {margin:.2g} on average; the loss is "
                f"{loss:.3f}, that of a guess of two is ln 2 = 0.693"
            )
            yield finding("nothing-learned/preferences", evidence, self.doctor.updates)


def are_likelihoods(logs):
    """Return True if rewards are log-probabilities times a factor: CPO has no reference model."""
    (a, b), (p, q) = (
        [float(logs.get(f"{what}/{which}", 0)) for which in ("chosen", "rejected")]
        for what in ("rewards", "logps")
    )
    return abs(a * q - b * p) < 0.01 * abs(a * q)
