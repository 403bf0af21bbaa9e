"""Does the optimizer have the tensors of the model that runs?"""

import re

import torch

from ..findings import finding
from ..hooks import bare
from ..record import sample, some

# has no part in the loss, or is trained by way of others
UNUSED = re.compile(r"pooler|original_module|base_layer")

LATER = 40  # updates after which each of several optimizers has stepped


class Membership:
    """Compares them in the first updates of an optimizer."""

    def __init__(self, doctor):
        self.doctor = doctor
        self.filled = set()  # ids of the parameters that a state was loaded into
        self.plain = {}  # name: a tensor in a module that is no parameter, and its first values

    def state_matched(self, module, state, found):
        self.filled |= {id(p) for name, p in module.named_parameters() if name in state}

    def after_step(self, optimizer):
        doctor, now = self.doctor, self.doctor.now
        if doctor.trained is None or not now.before:
            return
        named = dict(doctor.trained.named_parameters())
        if now.age > 4:  # a layer may be added at any time
            yield from self.left_out(named, optimizer)
            return
        yield from self.other_tensors(named)
        yield from self.plain_tensors()
        yield from self.frozen(named)
        yield from self.never_filled(named)
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

    def plain_tensors(self):
        """Tensors of modules that get gradients, are no parameters, and stay as they are."""
        now, found = self.doctor.now, {}
        for place, module in self.doctor.trained.named_modules():
            for name, value in vars(module).items():
                leaf = leaf_of(value)
                if leaf is not None and id(leaf) not in self.doctor.history.owned:
                    found[f"{place}.{name}"] = leaf
        if now.age == 1:
            self.plain = {name: (leaf, sample(leaf)) for name, leaf in found.items()}
        still = [
            name
            for name, (leaf, before) in self.plain.items()
            if found.get(name) is leaf and torch.equal(sample(leaf), before)
        ]
        if still and now.age == 3:
            yield finding("no-gradient/no-parameter", some(still), now.number)

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

    def never_filled(self, named):
        """A new head that is frozen, in a model whose other weights were loaded."""
        if self.doctor.now.age != 3:
            return
        loaded = {
            name
            for name, p in named.items()
            if id(p) in self.filled or getattr(p, "_is_hf_initialized", False)  # from_pretrained
        }
        parts = self.doctor.trained.modules()
        tables = [part for part in parts if isinstance(part, torch.nn.Embedding)]
        words = max((table.num_embeddings for table in tables), default=0)
        new = [
            name
            for name, p in named.items()
            if not p.requires_grad and p.ndim > 1 and name not in loaded
            if id(p) not in self.doctor.history.owned and not UNUSED.search(name)
            if p.size(0) != words  # a table that got more rows
        ]
        total, size = (sum(named[name].numel() for name in part) for part in (named, new))
        if new and size < 0.1 * total < sum(named[name].numel() for name in loaded) / 5:
            yield finding("no-gradient/new-and-frozen", some(new), self.doctor.now.number)

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
        # another optimizer may not have stepped yet: of a GAN, or of a critic
        settled = self.doctor.alone(optimizer) or self.doctor.now.age >= LATER
        if missing and len(models) < 2 and settled:
            yield finding("no-gradient/no-optimizer", some(missing), self.doctor.now.number)


def leaf_of(value):
    """Return what gets a tensor's gradient: itself, or what it was made of, as by .cuda()."""
    if not isinstance(value, torch.Tensor) or not value.requires_grad:
        return None
    made = [] if value.is_leaf else value.grad_fn.next_functions
    leaves = [value] if value.is_leaf else [getattr(step, "variable", None) for step, _ in made]
    return next((leaf for leaf in leaves if leaf is not None and leaf.grad is not None), None)
