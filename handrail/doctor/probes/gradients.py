"""Which tensors should get a gradient, and get none?"""

from collections import Counter

import torch

from ..findings import finding
from ..record import alive, close, sample, some

OPTIONAL = "pooler"  # Transformers' encoders have one that many tasks leave unused


class Gradients:
    """Looks at the gradient of every tensor, at the updates that are looked at closely."""

    def __init__(self, doctor):
        self.doctor, self.looks = doctor, 0
        self.silent, self.zeros = Counter(), Counter()  # looks without gradient; with one of 0
        self.nothing = 0  # looks in a row at which every gradient was 0
        self.first, self.moved = {}, set()  # without one: values at first; moved all the same
        self.came = False  # were gradients there after the last backward?
        self.itself = 0  # times that backward was given its own loss
        self.ran = set()  # ids of the modules that ran in the first updates

    def passed(self, seen):
        self.ran |= seen.ran

    def gradients_came(self):
        if self.doctor.updates < 4 and self.doctor.trained is not None:
            self.came = any(p.grad is not None for p in self.doctor.trained.parameters())

    def times_itself(self):
        """loss.backward(loss): the argument is no loss, but what each gradient is multiplied by."""
        self.itself += 1
        if self.itself == 3:
            evidence = "backward was given the loss itself as its argument, 3 times"
            yield finding("gradient-times-loss", evidence, self.doctor.now.number)

    def before_step(self, optimizer):
        now, model = self.doctor.now, self.doctor.trained
        if model is None or not (close(now.number) or close(now.age)):
            return
        wanted = {
            name: p
            for name, p in model.named_parameters()
            if p.requires_grad and OPTIONAL not in name
        }
        none = [name for name, p in wanted.items() if p.grad is None]
        zero = [name for name, p in wanted.items() if p.grad is not None and not alive(p)]
        self.looks += 1
        self.silent.update(none)
        self.zeros.update(zero)
        for name in none:
            values = sample(wanted[name])
            if not torch.equal(self.first.setdefault(name, values), values):
                self.moved.add(name)  # as averages of others do
        self.nothing = self.nothing + 1 if len(none) + len(zero) == len(wanted) and zero else 0
        if self.looks < 2 or not wanted:
            return
        yield from self.missing(model, none, len(wanted))
        yield from self.always_zero(model, zero, len(wanted))
        yield from self.all_zero()

    def missing(self, model, none, total):
        update, elsewhere = self.doctor.now.number, self.doctor.elsewhere
        if len(none) == total and elsewhere >= update:
            evidence = (
                f"{elsewhere} passes of another model, none of this {type(model).__name__}, and it "
                "has no gradient"
            )
            yield finding("weights-do-not-move/another-model-runs", evidence, update)
            return
        if len(none) == total and self.came:
            evidence = f"gradients after backward; at the step none of {total} tensors has one"
            yield finding("weights-do-not-move/cleared-before-the-step", evidence, update)
            return
        idle, owned = self.idle(model, update), self.doctor.history.owned
        held = {name for name, p in model.named_parameters() if id(p) in owned}
        names = [
            name
            for name in none
            if self.silent[name] == self.looks
            and name not in self.moved
            and name.rpartition(".")[0] not in idle
            and (name in held or not held)
        ]
        if names and (update >= 30 or several(names)):
            level = "certain" if several(names) and update < 30 else "warning"
            counts = {"count": len(names), "total": total}
            yield finding("no-gradient", some(names), update, level, **counts)

    def always_zero(self, model, zero, total):
        """Used, but what they compute makes no difference."""
        if self.doctor.now.number != 30 or self.looks < 5:
            return
        idle = self.idle(model, 30)
        names = []
        for name in zero:
            module = name.rpartition(".")[0]
            words = isinstance(model.get_submodule(module), torch.nn.Embedding)
            always = self.zeros[name] == self.looks and model.get_parameter(name).ndim > 1
            if always and not words and module not in idle:
                names.append(name)
        if several(names) and len(names) < total / 2:
            counts = {"count": len(names), "total": total}
            yield finding("no-gradient/always-zero", some(names), 30, **counts)

    def all_zero(self):
        if self.nothing >= 3 and self.looks >= 3:
            update = self.doctor.now.number
            evidence = f"{self.nothing} times in a row, up to update {update}"
            writes = self.doctor.history.generated >= 2  # it learns from what it writes itself
            name = "reward-without-spread/zero-gradients" if writes else "no-gradient/all-zero"
            yield finding(name, evidence, update)

    def idle(self, model, update):
        """Return the names of modules that did not run, and may still: heads of a later task.

        None where the inside of a model is out of sight (compiled).
        """
        if not self.ran:
            return set()
        still = {name for name, m in model.named_modules() if name and id(m) not in self.ran}
        layers = []  # several of one list ran: layers or experts, and no heads
        for name, module in model.named_modules():
            if isinstance(module, torch.nn.ModuleList):
                if sum(id(layer) in self.ran for layer in module) > 1:
                    layers.append(f"{name}.")
        # Transformers' models have parts that many tasks leave unused
        spare = [name for name, m in model.named_modules() if hasattr(m, "_init_weights")]
        roots = tuple(f"{name}." if name else "" for name in spare)
        found = set()
        for name in still:
            unused = "lora_" not in name and name.startswith(roots)
            waits = 30 if name.startswith(tuple(layers)) else 100
            if unused or update < waits:
                found.add(name)
        return found


def several(names):
    """Return True for tensors of more than one module: one alone may be a head used later."""
    return len({name.rpartition(".")[0] for name in names}) > 1
