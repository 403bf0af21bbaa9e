"""Do weights that are loaded reach the model?"""

from ..findings import finding


class Loading:
    """Compares the names in a state with those of the model that loads it."""

    def __init__(self, doctor):
        self.doctor = doctor

    def state_loaded(self, module, state):
        own = set(module.state_dict().keys()) if hasattr(state, "keys") else set()
        given = [name for name in own and state if isinstance(name, str)]
        if len(given) < 2 or own & set(given):
            return
        evidence = (
            f"{len(given)} tensors, such as {given[0]}, and none has a name that this "
            f"{type(module).__name__} knows, such as {min(own)}"
        )
        yield finding("nothing-loaded", evidence, self.doctor.updates)
