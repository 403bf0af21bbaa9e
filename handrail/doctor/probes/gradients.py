"""Which tensors should get a gradient, and get none?"""

from collections import Counter

import torch

from ..findings import finding
from ..hooks import bare
from ..record import alive, close, sample

OPTIONAL = "pooler"  # Transformers' encoders have one that many tasks leave unused


class Gradients:
    """Looks at the gradient of every tensor, at the updates that are looked at closely."""

    def __init__(self, doctor):
        self.doctor, self.looks = doctor, 0
        self.silent, self.zeros = Counter(), Counter()  # looks without gradient; with one of 0
        self.nothing = 0  # looks in a row at which every gradient was 0
        self.first, self.moved = {}, set()  # without one: values at first; moved all the same
        self.came = False  # were gradients there after the last backward?
        self.ran = set()  # ids of the modules that ran in the first updates

    def passed(self, seen):
        self.ran |= seen.ran

    def gradients_came(self):
        if self.doctor.updates < 4 and self.doctor.trained is not None:
            self.came = any(p.grad is not None for p in self.doctor.trained.parameters())

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


class Membership:
    """Does the optimizer have the tensors of the model that runs?"""

    def __init__(self, doctor):
        self.doctor = doctor

    def after_step(self, optimizer):
        doctor, now = self.doctor, self.doctor.now
        if doctor.trained is None or now.age > 4 or not now.before:
            return
        named = dict(doctor.trained.named_parameters())
        yield from self.other_tensors(named)
        yield from self.frozen(named)
        strangers = self.unregistered()
        if strangers:
            evidence = (
                f"{', '.join(strangers[:5])} of {type(bare(doctor.trained)).__name__}; not in "
                "model.parameters(), not in the optimizer"
            )
            yield finding("no-gradient/unregistered", evidence, now.number)
        elif now.age == 3:
            yield from self.left_out(named, optimizer)

    def other_tensors(self, named):
        wanted = {id(p) for p in named.values() if p.requires_grad}
        taught = any(p.grad is not None for p in named.values())
        if self.doctor.now.age >= 3 and wanted and taught:
            if wanted.isdisjoint(self.doctor.history.owned):
                evidence = (
                    f"none of the {len(wanted)} tensors of "
                    f"{type(bare(self.doctor.trained)).__name__} is in the optimizer, and they "
                    "get the gradients"
                )
                name = "weights-do-not-move/other-tensors"
                yield finding(name, evidence, self.doctor.now.number)

    def frozen(self, named):
        """Weights that stay random; word vectors from elsewhere may stay as they are."""
        doctor = self.doctor
        reads = any(seen.ids is not None for seen in doctor.now.passes)
        if doctor.now.number != 4 or not reads or doctor.knew():
            return
        if any("lora_" in name for name in named):
            return
        embeddings = [m for m in doctor.trained.modules() if isinstance(m, torch.nn.Embedding)]
        tables = {id(module.weight) for module in embeddings}
        still = {n: p for n, p in named.items() if not p.requires_grad and id(p) not in tables}
        total = sum(p.numel() for p in named.values())
        share = sum(p.numel() for p in still.values()) / max(1, total)
        if share > 0.3:
            yield finding("no-gradient/frozen", some(list(still)), 4, share=share)

    def unregistered(self):
        """Return the kinds of modules that run inside the model and are not part of it."""
        owned = self.doctor.history.owned
        strangers = [module for seen in self.doctor.now.passes for module in seen.strangers]
        return sorted(
            {
                type(module).__name__
                for module in strangers
                if not any(id(p) in owned for p in module.parameters())
            }
        )

    def left_out(self, named, optimizer):
        """Tensors that get gradients, and that no optimizer has."""
        owned = self.doctor.history.owned
        missing = [
            name
            for name, p in named.items()
            if p.requires_grad and p.grad is not None and id(p) not in owned
        ]
        models = {id(bare(seen.module)) for seen in self.doctor.now.passes}
        if missing and len(models) == 1 and self.doctor.alone(optimizer):
            yield finding("no-gradient/no-optimizer", some(missing), self.doctor.now.number)


def several(names):
    """Return True for tensors of more than one module: one alone may be a head used later."""
    return len({name.rpartition(".")[0] for name in names}) > 1


def some(names):
    return ", ".join(names[:6]) + (" ..." if len(names) > 6 else "")
