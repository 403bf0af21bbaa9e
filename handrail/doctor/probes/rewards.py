"""What TRL's trainers log about the rewards."""

from ..findings import finding

NAMES = ("frac_reward_zero_std", "rewards/frac_reward_zero_std")


class Rewards:
    """Looks for rewards that are all the same, and for preferred answers that become unlikely."""

    def __init__(self, doctor):
        self.doctor, self.alike = doctor, []  # share of the groups whose rewards are all the same

    def logged(self, logs):
        update, chosen = self.doctor.updates, logs.get("rewards/chosen")
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


def are_likelihoods(logs):
    """Return True if rewards are log-probabilities times a factor: CPO has no reference model."""
    (a, b), (p, q) = (
        [float(logs.get(f"{what}/{which}", 0)) for which in ("chosen", "rejected")]
        for what in ("rewards", "logps")
    )
    return abs(a * q - b * p) < 0.01 * abs(a * q)
