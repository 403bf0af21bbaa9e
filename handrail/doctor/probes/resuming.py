"""Does a run that continues from a checkpoint also get its optimizer's state?"""

from pathlib import Path

import torch

from ..findings import finding

PLACES = ("step", "epoch", "iter", "iter_num", "global_step", "update", "updates")


class Resuming:
    """Follows what is read from files before the first update, and whether it is used."""

    def __init__(self, doctor):
        self.doctor, self.first = doctor, True
        self.start()

    def start(self):
        self.states = []  # files with the state of an optimizer
        self.checkpoint = ""  # a file of a run, without one
        self.tensors = []  # of the files that were read
        self.used = False  # was the state given to an optimizer?
        self.reached = True  # are the tensors those of the model that is trained?

    def loaded(self, file, found):
        """A file that was read: does it hold an optimizer's state, is it a checkpoint of a run?"""
        if self.doctor.updates or not isinstance(found, dict):
            return
        parts = {name: value for name, value in found.items() if isinstance(value, dict)}
        for part in (found, *parts.values()):
            self.tensors += [value for value in part.values() if is_weight(value)]
        del self.tensors[500:]
        if "param_groups" in found and "state" in found:
            self.states.append(file)
            return
        inside = [name for name, part in parts.items() if "param_groups" in part]
        self.states += [f"{file}[{name!r}]" for name in inside]
        places = [found[name] for name in PLACES if isinstance(found.get(name), int)]
        holds = any(isinstance(v, torch.Tensor) for part in parts.values() for v in part.values())
        if max(places, default=0) > 0 and holds and not inside:
            self.checkpoint = file
        if found and all(isinstance(value, torch.Tensor) for value in found.values()):
            if Path(file).is_file() and any(Path(file).parent.glob("optimizer*.[bp][it]*")):
                self.checkpoint = f"{file}, next to the state of an optimizer,"

    def loaded_optimizer(self):
        self.used = True

    def resuming(self, folder):
        """A Trainer continues from a checkpoint."""
        self.start()
        self.first, self.checkpoint = True, folder

    def after_step(self, optimizer):
        first, self.first, self.tensors = self.first, False, []
        if not first or self.used or not self.reached:
            return
        if self.states:
            evidence = f"{self.states[0]} holds the state of an optimizer, but it was not loaded"
            yield finding("resume-without-optimizer", evidence)
        elif self.checkpoint:
            evidence = f"{self.checkpoint} is a checkpoint of a run; no optimizer got a state"
            yield finding("resume-without-optimizer", evidence)

    def before_step(self, optimizer):
        """Are the tensors that were read those of the model that is trained, or a teacher's?"""
        model = self.doctor.trained
        if self.first and self.tensors and model is not None:
            mine = list(model.parameters())
            found = sum(any(is_copy(value, p) for value in self.tensors) for p in mine)
            self.reached = found >= 0.9 * min(len(mine), len(self.tensors))
            self.doctor.loaded |= found > 0


def is_weight(value):
    return isinstance(value, torch.Tensor) and value.is_floating_point() and value.ndim > 0


def is_copy(value, p):
    return value.shape == p.shape and torch.equal(value.to(p), p)
