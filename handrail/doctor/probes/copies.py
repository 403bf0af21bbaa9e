"""Is what a program keeps as a copy of its weights a copy, and is its average of them used?"""

import weakref

import torch

from ..findings import finding
from ..hooks import bare

OFTEN = 20  # averages in a run that are no try


class Copies:
    """Remembers when a state_dict was taken: its tensors are the weights, until they are copied."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.taken = {}  # id of its first tensor: (a reference to it, the update)
        self.averages = {}  # ids of an AveragedModel and of what it holds: updates of it
        self.used = set()  # ids of modules that ran, or whose state was taken

    def state_taken(self, module, state):
        self.used.add(id(module))
        tensor = first_of(state)
        if tensor is not None:
            self.taken = {key: kept for key, kept in self.taken.items() if kept[0]() is not None}
            self.taken[id(tensor)] = weakref.ref(tensor), self.doctor.updates

    def state_loaded(self, module, state):
        """Comes before it is loaded."""
        update = self.age_of(state)
        if update is None or not is_live(module, state):
            return
        evidence = (
            f"state_dict() was called at update {update:,} and loaded again now; all of its "
            f"{len(state)} tensors lie where the model's own weights do, so nothing was restored"
        )
        yield finding("copy-is-live", evidence, self.doctor.updates)

    def stored(self, found):
        """Something is saved with torch.save."""
        parts = [found, *found.values()] if isinstance(found, dict) else [found]
        for state in parts:
            update = self.age_of(state)
            model = self.doctor.trained
            if update is not None and model is not None and is_live(model, state):
                evidence = (
                    f"state_dict() was called at update {update:,} and is saved at update "
                    f"{self.doctor.updates:,}; its tensors are the model's own weights of now"
                )
                yield finding("copy-is-live/saved", evidence, self.doctor.updates)

    def age_of(self, state):
        """Return the update at which a state was taken, None if it is of now, or unknown."""
        tensor = first_of(state)
        kept, update = self.taken.get(id(tensor), (None, 0))
        if kept is None or kept() is not tensor or update >= self.doctor.updates:
            return None
        return update

    def average_moved(self, module):
        both = id(module), id(module.module)
        self.averages[both] = self.averages.get(both, 0) + 1

    def passed(self, seen):
        self.used.add(id(bare(seen.module)))

    def ended(self):
        if self.doctor.model is not None or self.doctor.cut_short:
            return  # then passes of the average are not heard
        for both, times in self.averages.items():
            if times >= OFTEN and not set(both) & self.used:
                evidence = (
                    f"AveragedModel.update_parameters was called {times:,} times; the "
                    "average was never run, and its state_dict never taken"
                )
                yield finding("average-never-used", evidence, self.doctor.updates)


def first_of(state):
    """Return the first tensor of a state_dict, None of anything else."""
    if not isinstance(state, dict):
        return None
    return next((value for value in state.values() if isinstance(value, torch.Tensor)), None)


def is_live(module, state):
    """Return True if all tensors of a state lie in the memory of the module's own weights."""
    own = {place(p) for p in bare(module).parameters()}
    own |= {place(buffer) for buffer in bare(module).buffers()}
    tensors = [value for value in state.values() if isinstance(value, torch.Tensor)]
    return bool(tensors) and all(place(tensor) in own for tensor in tensors)


def place(tensor):
    return tensor.untyped_storage().data_ptr()
