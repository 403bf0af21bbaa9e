"""What could not be checked, because it was not heard. No finding: a line of the report."""

from ..token_rows import given_targets

LOOKED_AT = 20  # updates


class Unheard:
    """Counts passes, those that read tokens, and those whose targets are known."""

    def __init__(self, doctor):
        self.doctor, self.said = doctor, False
        self.passes = self.read = self.known = 0

    def after_step(self, optimizer):
        if self.said:
            return
        for seen in self.doctor.now.passes:
            self.passes += 1
            self.read += seen.ids is not None
            self.known += knows(seen)
        if self.doctor.updates == LOOKED_AT:
            self.say()

    def ended(self):
        if self.doctor.updates and not self.said:
            self.say()

    def say(self):
        self.said = True
        if not self.passes:
            self.doctor.left_out.append(
                "no forward pass of a model was heard (compiled functions and torch.func hide it), "
                "so inputs, labels and order were not checked"
            )
        elif self.read and not self.known:
            self.doctor.left_out.append(
                "no loss over tokens or classes was heard, so labels were not checked"
            )


def knows(seen):
    """Return True if a loss over tokens or classes was heard, or the labels were given by name."""
    if seen.losses:
        return True
    return seen.ids is not None and (
        "labels" in seen.inputs or given_targets(seen, seen.ids.cpu()) is not None
    )
