"""Do weights that are loaded reach the model?"""

from ..findings import finding


class Loading:
    """Reads what load_state_dict returns, which most programs drop."""

    def __init__(self, doctor):
        self.doctor = doctor

    def state_matched(self, module, state, found):
        """After a state was loaded; found: the names that were missing, and those unexpected."""
        missing, unexpected = found or ((), ())
        if missing and len(unexpected) == len(state) > 1:
            evidence = (
                f"all {len(state)} tensors, such as {unexpected[0]}, were unexpected; this "
                f"{type(module).__name__} wanted names such as {missing[0]}"
            )
            yield finding("nothing-loaded", evidence, self.doctor.updates)
