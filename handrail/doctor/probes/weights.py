"""Probe D: after an update, which tensors moved and by how much; which should have and did not."""

import math
from collections import Counter

import torch

from ..findings import Finding
from ..hooks import bare

SAMPLE = 2048  # values of a tensor that are compared
EARLY = 24  # updates in which gradients that were not taken away are looked for


def due(update):
    """Return True for the updates that are looked at closely."""
    return update <= 4 or update <= 60 and update % 10 == 0 or update % 100 == 0


class Weights:
    """Follows gradients and weights of every tensor that should be trained."""

    def __init__(self, doctor):
        self.doctor, self.before, self.silent, self.still, self.means, self.whole, self.scaler = (
            doctor,
            {},
            {},
            0,
            0,
            0,
            False,
        )
        self.held, self.kept, self.seen, self.old = (
            {},
            set(),
            set(),
            Counter(),
        )  # by optimizer: some of its tensors; old gradients found; looked at since its step; in how many updates
        self.written = 0  # texts that the model generated
        self.owned = set()  # the tensors of all optimizers seen
        self.asleep, self.carried = (
            {},
            set(),
        )  # what tensors without a gradient held at first; those that moved without one, as averages of others do
        self.came = False  # were gradients there after the last backward?
        self.marked, self.cuts, self.gone = (
            [],
            0,
            0,
        )  # some of them; how often they were gone at the next backward of an update; in how many updates
        self.zeros = Counter()  # looks at which a tensor's gradient was 0 everywhere
        self.low, self.waiting = (
            0,
            0,
        )  # looks at which hardly a 16-bit value moved; passes since the last step
        self.ran = set()  # the modules that ran, and got gradients, in the first updates
        self.sizes, self.looks, self.nothing, self.parts = [], 0, 0, []
        self.empty = (
            set()
        )  # the tensors that began as zeros: every step of theirs is large beside them

    def passed(self, seen):
        """Note what runs. A program may pass over a loss that is no number, and then over all that follow."""
        self.ran |= seen.ran
        self.waiting += seen.grad and seen.training
        if (
            self.waiting
            and self.waiting % 20 == 0
            and self.doctor.trained is not None
            and not all(p.isfinite().all() for p in self.doctor.trained.parameters())
        ):
            yield Finding(
                "non-finite",
                "certain",
                "The weights are no longer numbers (NaN or infinite), and no update is made any more.",
                f"{self.waiting} batches were read since the last update, {self.doctor.updates:,}",
                [("the program passes over every loss that is no number, and now all are", 0.9)],
                "stop here, go back to the last checkpoint; torch.autograd.set_detect_anomaly(True) names the operation",
                self.doctor.updates,
            )

    # --- before the update: gradients ---

    def scaled(self, enabled):
        self.scaler = self.scaler or enabled

    def backward(self, loss, fresh):
        """Gradients that are still there when a new update begins were never taken away."""
        if fresh:
            self.parts, self.cuts, self.marked = [], 0, []
        self.cuts += bool(self.marked) and not any(alive(p) for p, _ in self.marked)
        self.parts.append(loss)
        if (
            fresh and self.doctor.updates <= EARLY
        ):  # of every optimizer seen: which of them steps next is not known yet
            there = {
                number
                for number, some in self.held.items()
                if any(alive(p) and not shrunk(sample(p.grad), was) for p, was in some)
            }
            self.kept = (
                self.kept & self.seen | there - self.seen
            ) & there  # at the first backward after its step, and still
            self.seen |= set(self.held)

    def gradients_came(self):
        if self.doctor.updates < 4 and self.doctor.trained is not None:
            self.came = any(p.grad is not None for p in self.doctor.trained.parameters())
        if self.doctor.updates < EARLY and self.doctor.trained is not None:
            some = [
                p
                for p in self.doctor.trained.parameters()
                if p.grad is not None and not p.grad.is_sparse
            ][-4:]
            self.marked = [(p, sample(p.grad)) for p in some]

    def stale(self, optimizer):
        """Gradients that were there before the first backward of an update, of what this optimizer moves."""
        number = id(optimizer)
        self.old[number] = self.old[number] + 1 if number in self.kept else 0
        self.seen.discard(number)
        if (
            self.doctor.updates <= EARLY
        ):  # gradients that were made smaller in between, as a momentum, are kept on purpose
            some = [p for group in optimizer.param_groups for p in group["params"]][:4]
            self.held[number] = [
                (p, sample(p.grad)) for p in some if p.grad is not None and not p.grad.is_sparse
            ]
        if self.old[number] >= 3 and self.doctor.updates <= EARLY:
            yield Finding(
                "gradients-not-zeroed",
                "certain",
                "Gradients are never taken away: every update adds those of all updates before.",
                f"at the first backward of {self.old[number]} updates in a row the old gradients were still there",
                [("optimizer.zero_grad() is missing", 0.95)],
                "optimizer.zero_grad() after optimizer.step()",
                self.doctor.updates,
            )

    def before_step(self, optimizer):
        doctor, update = self.doctor, self.doctor.now.number
        yield from self.stale(optimizer)
        yield from self.finite()
        yield from self.half()
        yield from self.accumulated(optimizer)
        yield from self.cleared(optimizer)
        if not due(update) and not due(self.age(optimizer)) or self.doctor.trained is None:
            return
        self.before = {
            id(p): sample(p) for group in optimizer.param_groups for p in group["params"]
        }
        self.owned |= {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.moving = any(alive(p) for group in optimizer.param_groups for p in group["params"])
        yield from self.gradients(doctor.trained, update)

    def age(self, optimizer):
        """Return the number of the update, counted from the optimizer's first."""
        return (
            self.doctor.now.number
            - self.doctor.steppers.get(id(optimizer), self.doctor.now.number)
            + 1
        )

    def cleared(self, optimizer):
        """Of several batches the gradients of all but the last were taken away; not so where each is kept elsewhere, or looks for the worst change of the same rows."""
        cuts, self.cuts = self.cuts, 0
        answers = [seen.losses[0].targets for seen in self.doctor.now.passes if seen.losses]
        if cuts < 2 or len(answers) < 2 or self.doctor.updates > EARLY:
            return
        kept = all(
            p.grad is not None
            and torch.cosine_similarity(sample(p.grad).float(), was.float(), 0) > 0.999
            for p, was in self.marked
        )
        self.gone = (
            self.gone + 1
            if kept
            and (answers[0].shape != answers[1].shape or not torch.equal(answers[0], answers[1]))
            else 0
        )
        if self.gone == 3:
            yield Finding(
                "accumulation-cleared",
                "certain",
                "Gradients are taken away between the batches of one update: only the last batch teaches.",
                f"{cuts} times within one update, in each of the last 3 updates",
                [
                    (
                        "optimizer.zero_grad() stands inside the loop over the batches of an update",
                        0.95,
                    )
                ],
                "zero_grad() once, after optimizer.step()",
                self.doctor.now.number,
            )

    def generated(self, model, inputs, mask, found):
        self.written += 1

    def finite(self):
        """A loss that is no number, and the first tensor that holds one."""
        doctor = self.doctor
        if (
            doctor.updates > 10
            and doctor.updates % 10
            and doctor.now.losses
            and doctor.now.losses[-1].device.type != "cpu"
        ):
            return
        bad = [
            loss
            for loss in doctor.now.losses
            if loss.numel() == 1 and not math.isfinite(loss.item())
        ]
        if bad and doctor.trained is not None:
            where = [
                name for name, p in doctor.trained.named_parameters() if not p.isfinite().all()
            ]
            grads = [
                name
                for name, p in doctor.trained.named_parameters()
                if p.grad is not None and not p.grad.isfinite().all()
            ]
            held = (
                f"weights of {where[0]} and {len(where) - 1} more hold such values"
                if where
                else f"no weight does yet; the gradients of {len(grads)} tensors do"
                if grads
                else "no weight and no gradient does: it is in the loss itself"
            )
            causes = [
                ("the learning rate is too high", 0.6),
                ("a division by zero or a logarithm of zero in the loss or the data", 0.4),
            ]
            yield Finding(
                "non-finite",
                "certain",
                "The loss is no longer a number (NaN or infinite), and will not be one again.",
                held,
                causes if where else [(causes[1][0], 0.6), (causes[0][0], 0.4)],
                "stop here, go back to the last checkpoint; torch.autograd.set_detect_anomaly(True) names the operation",
                doctor.now.number,
            )

    def half(self):
        doctor = self.doctor
        if doctor.now.number not in (2, 3) or doctor.trained is None or self.scaler:
            return
        kinds = {p.dtype for p in doctor.trained.parameters() if p.requires_grad}
        cast = any(seen.autocast == torch.float16 for seen in doctor.now.passes)
        if torch.float16 in kinds or cast:
            small = [p.grad for p in doctor.trained.parameters() if p.grad is not None]
            zero = sum(int((g == 0).sum()) for g in small) / max(1, sum(g.numel() for g in small))
            yield Finding(
                "fp16-without-scaler",
                "certain",
                "Training in fp16 without a scaler: small gradients become 0, large ones infinite.",
                f"{'the weights themselves are' if torch.float16 in kinds else 'autocast uses'} fp16, no GradScaler was used; {zero:.0%} of the gradients are exactly 0",
                [
                    (
                        "model.half() or dtype=torch.float16 where mixed precision was meant",
                        0.6 if torch.float16 in kinds else 0.1,
                    ),
                    ("GradScaler is missing", 0.4),
                ],
                "bf16 where the GPU has it; else torch.amp.GradScaler, or Accelerate with mixed_precision='fp16'",
                doctor.now.number,
            )

    def accumulated(self, optimizer):
        """Several batches an update: the mean of their means lets a token of a short one count more; their sum is as many times too large."""
        doctor = self.doctor
        passes, losses = doctor.now.passes, doctor.now.losses
        if (
            len(losses) < 2
            or len(passes) != len(losses)
            or any(len(seen.losses) != 1 for seen in passes)
            or doctor.updates > 40
        ):
            return
        heard = [seen.losses[0] for seen in passes]
        if (
            any(loss.targets.is_floating_point() for loss in heard)
            or len({loss.classes for loss in heard}) > 1
        ):  # several tasks
            return
        counts = [int((loss.targets != loss.ignore).sum()) for loss in heard]
        if min(counts) == 0:
            return
        sums = [
            float(part.value.sum()) * (count if part.reduction == "mean" else 1)
            for part, count in zip(heard, counts)
        ]
        factors = [
            float(loss) / total * count if total else 0
            for loss, total, count in zip(losses, sums, counts)
        ]  # weight of a batch's mean
        alike = 0 < max(factors) < 1.02 * min(factors)
        feels = "SGD" in type(optimizer).__name__ or any(
            getattr(probe, "tight", float)() > 1 for probe in doctor.probes
        )  # Adam does not feel the size of a gradient
        self.whole = (
            self.whole + 1
            if alike and feels and len(counts) > 2 and abs(min(factors) - 1) < 0.01
            else 0
        )
        if self.whole == 3:
            yield Finding(
                "accumulation-not-divided",
                "warning",
                f"The {len(counts)} batches of an update are added up, not averaged: the gradient is {len(counts)} times that of one batch.",
                f"each of {len(counts)} losses before a step goes backward with its whole weight; {'SGD takes a step as many times larger' if 'SGD' in type(optimizer).__name__ else 'clipping cuts off what is too long'}",
                [
                    ("the loss is not divided by the number of batches", 0.8),
                    ("several tasks, meant to be added up", 0.2),
                ],
                "(loss / batches_per_update).backward(), or accelerator.accumulate",
                doctor.now.number,
            )
        self.means = self.means + 1 if alike and max(counts) >= 1.5 * min(counts) else 0
        if self.means >= 2:
            yield Finding(
                "accumulation-mean-of-means",
                "certain",
                "Gradient accumulation averages the means of unequal batches: tokens of short batches count more.",
                f"the {len(counts)} batches of an update have {min(counts)} to {max(counts)} trained tokens, and each loss is weighed {factors[0]:.3g}",
                [("each batch's mean loss is divided by the number of batches", 0.95)],
                "sum the losses of all tokens, divide by the tokens of all batches (Transformers: num_items_in_batch)",
                doctor.now.number,
            )

    def gradients(self, model, update):
        """Tensors that should get a gradient, and get none at every look."""
        names, none, zero, total = [], [], [], 0
        for name, p in model.named_parameters():
            if (
                not p.requires_grad or "pooler" in name
            ):  # Transformers' encoders have one that many tasks leave unused
                continue
            total += 1
            if p.grad is None:
                none.append(name)
                now = sample(p)
                if not torch.equal(self.asleep.setdefault(name, now), now):
                    self.carried.add(name)
            elif not alive(p):
                zero.append(name)
        self.looks += 1
        for name in none:
            self.silent[name] = self.silent.get(name, 0) + 1
        self.nothing = self.nothing + 1 if total and len(zero) + len(none) == total and zero else 0
        idle = self.idle(model, update)
        held = {
            name for name, p in model.named_parameters() if id(p) in self.owned
        }  # what no optimizer has may be moved otherwise, as an average
        names = [
            name
            for name in none
            if self.silent[name] == self.looks
            and name not in self.carried
            and name.rpartition(".")[0] not in idle
            and (name in held or not held)
        ]
        if self.looks >= 2 and len(none) == total > 0 and self.doctor.elsewhere >= update:
            yield Finding(
                "weights-do-not-move",
                "certain",
                "Another model than the one that the Doctor was given is run: the one that the optimizer holds never changes.",
                f"{self.doctor.elsewhere} passes of another model, none of this {type(model).__name__}, and it has no gradient",
                [
                    ("the model was replaced, moved or wrapped after the optimizer was made", 0.8),
                    ("the Doctor was given another model than the one that is trained", 0.2),
                ],
                "make the optimizer, and the Doctor, after the model has its final form",
                update,
            )
        elif self.looks >= 2 and len(none) == total > 0 and self.came:
            yield Finding(
                "weights-do-not-move",
                "certain",
                "The gradients are taken away before the optimizer uses them: no weight changes.",
                f"after backward there were gradients; at the step none of {total} tensors has one",
                [("zero_grad() stands between backward() and step()", 0.95)],
                "optimizer.zero_grad(), then loss.backward(), then optimizer.step()",
                update,
            )
        elif self.looks >= 2 and names and total and (update >= 30 or several(names)):
            lora = any("lora_" in name for name in names)
            yield Finding(
                "no-gradient",
                "certain" if several(names) and update < 30 else "warning",
                f"{len(names)} of {total} tensors that should be trained never get{'s' * (len(names) == 1)} a gradient.",
                ", ".join(names[:6]) + (" ..." if len(names) > 6 else ""),
                [
                    (
                        "their output is cut off from the loss: detach(), .data, torch.no_grad(), or they are not used at all",
                        0.9,
                    ),
                    ("LoRA on modules that are not used", 0.1 if not lora else 0.5),
                ],
                "follow the tensor from its module to the loss; what lies under no_grad or behind detach() gets nothing",
                update,
            )
        self.zeros.update(zero)
        still = [
            name
            for name in zero
            if self.zeros[name] == self.looks
            and name.rpartition(".")[0] not in idle
            and not isinstance(model.get_submodule(name.rpartition(".")[0]), torch.nn.Embedding)
            and model.get_parameter(name).ndim > 1
        ]
        if update == 30 and self.looks >= 5 and several(still) and len(still) < total / 2:
            yield Finding(
                "no-gradient",
                "warning",
                f"The gradients of {len(still)} of {total} tensors are exactly 0 at every look: they are used, and what they do makes no difference.",
                ", ".join(still[:6]) + (" ..." if len(still) > 6 else ""),
                [
                    (
                        "what they make is lost on its way: a softmax over an axis of length 1, a product with 0, a ReLU that is never above 0",
                        0.8,
                    ),
                    ("their part of the loss counts only later", 0.2),
                ],
                "print what these modules give, and what is made of it",
                update,
            )
        if self.nothing >= 3 and self.looks >= 3:
            rewards = self.written >= 2  # it learns from what it writes itself
            yield Finding(
                "reward-without-spread" if rewards else "no-gradient",
                "warning",
                "Every gradient is exactly 0: these updates teach nothing.",
                f"at {self.nothing} looks in a row, up to update {update}",
                [
                    ("no answer is better than another: every group has one reward", 0.6),
                    ("the loss does not depend on the weights, or is multiplied by 0", 0.4),
                ],
                "look at the rewards of one group; a loss of 0 alone is normal there",
                update,
            )

    def idle(self, model, update):
        """Return the names of modules that did not run, and may still: a head whose task has not come yet. None where the inside of a model is out of sight (compiled)."""
        found = (
            {name for name, module in model.named_modules() if name and id(module) not in self.ran}
            if self.ran
            else set()
        )
        lists = {
            name: [id(layer) in self.ran for layer in module]
            for name, module in model.named_modules()
            if isinstance(module, torch.nn.ModuleList)
        }
        layers = {
            f"{name}." for name, ran in lists.items() if sum(ran) > 1
        }  # several of one list run: layers, or experts, and no heads
        spare = [
            name for name, module in model.named_modules() if hasattr(module, "_init_weights")
        ]  # Transformers' models have parts that many tasks leave unused
        unused = {
            name
            for name in found
            if "lora_" not in name
            and any(name.startswith(f"{own}." if own else "") for own in spare)
        }
        return unused | {
            name
            for name in found
            if update < (30 if any(name.startswith(layer) for layer in layers) else 100)
        }

    # --- after it: weights ---

    def after_step(self, optimizer):
        doctor, update = self.doctor, self.doctor.updates
        age = self.age(optimizer)
        if age <= 4 and doctor.trained is not None and self.before:
            yield from self.others(optimizer, update, age)
        if not self.before:
            return
        moved, ratios, names = (
            0,
            [],
            {id(p): name for name, p in doctor.trained.named_parameters()}
            if doctor.trained is not None
            else {},
        )
        for group in optimizer.param_groups:
            for p in group["params"]:
                now, old = sample(p), self.before.get(id(p))
                if old is None or old.shape != now.shape:
                    continue
                moved += not torch.equal(now, old)
                if update <= 4 and not old.any():
                    self.empty.add(id(p))
                if (
                    p.ndim == 2
                    and "embed" not in names.get(id(p), "embed")
                    and p.grad is not None
                    and id(p) not in self.empty
                ):
                    ratios.append(((now - old).norm() / (old.norm() + 1e-12)).item())
        rate, self.waiting = max(doctor.now.rates, default=0), 0
        if update >= 20 and self.moving and rate > 0:
            self.low = self.low + 1 if 0 < small_share(optimizer, self.before) < 0.05 else 0
            if self.low == 2:
                yield Finding(
                    "weights-do-not-move",
                    "warning",
                    "Of the 16-bit weights hardly any changes: most steps are too small to be held beside them.",
                    f"less than 5 % of the values changed at update {update}, rate {rate:.3g}",
                    [
                        (
                            "the weights themselves are in 16 bits; a step below about 1/500 of a weight is lost",
                            0.9,
                        )
                    ],
                    "keep the weights in 32 bits and let autocast do the rest",
                    update,
                )
        self.still = self.still + 1 if not moved and self.moving and rate > 0 else 0
        if self.still >= 3:
            kinds = {p.dtype for group in optimizer.param_groups for p in group["params"]}
            low = bool(kinds & {torch.bfloat16, torch.float16})
            yield Finding(
                "weights-do-not-move",
                "certain",
                "The optimizer steps, and no weight changes.",
                f"gradients are there, the rate is {rate:.3g}, and {len(self.before)} tensors are the same bits after the step",
                [
                    (
                        f"the step is smaller than what {kinds} can hold beside the weight",
                        0.9 if low else 0.3,
                    ),
                    (
                        "the optimizer's step is skipped or its rate does not reach it",
                        0.7 if not low else 0.1,
                    ),
                ],
                "keep the weights in 32 bits and let autocast do the rest"
                if low
                else "print the rate the optimizer has, and one weight before and after",
                update,
            )
        if ratios and rate > 0:
            self.sizes.append((age, rate, sorted(ratios)[len(ratios) // 2]))
        self.before = {}

    def others(self, optimizer, update, age):
        """The model that is run, and the tensors that the optimizer has: are they the same?"""
        mine = dict(self.doctor.trained.named_parameters())
        wanted = {id(p) for p in mine.values() if p.requires_grad}
        if (
            age >= 3
            and wanted
            and not wanted & self.owned
            and any(p.grad is not None for p in mine.values())
        ):
            yield Finding(
                "weights-do-not-move",
                "certain",
                "The optimizer holds other tensors than the model that is trained: the model never changes.",
                f"none of the {len(wanted)} tensors of {type(bare(self.doctor.trained)).__name__} is in the optimizer, and they get the gradients",
                [
                    ("the model was replaced, moved or wrapped after the optimizer was made", 0.9),
                    ("the optimizer was made for another model", 0.1),
                ],
                "make the optimizer after the model has its final form",
                update,
            )
        tables = {
            id(module.weight)
            for module in self.doctor.trained.modules()
            if isinstance(module, torch.nn.Embedding)
        }  # word vectors from elsewhere may stay
        frozen = sum(
            p.numel() for p in mine.values() if not p.requires_grad and id(p) not in tables
        ) / max(1, sum(p.numel() for p in mine.values()))
        reads = any(seen.ids is not None for seen in self.doctor.now.passes)
        if (
            update == 4
            and frozen > 0.3
            and reads
            and not self.doctor.knew()
            and not any("lora_" in name for name in mine)
        ):
            names = [name for name, p in mine.items() if not p.requires_grad]
            yield Finding(
                "no-gradient",
                "warning",
                f"{frozen:.0%} of a model that knows nothing yet are frozen: these weights stay random.",
                ", ".join(names[:6]) + (" ..." if len(names) > 6 else ""),
                [
                    ("requires_grad = False reached more than was meant", 0.8),
                    ("random layers that are meant to stay so", 0.2),
                ],
                "set requires_grad = True on what is to learn, before the optimizer is made",
                update,
            )
        strangers = {
            type(module).__name__
            for seen in self.doctor.now.passes
            for module in seen.strangers
            if not any(id(p) in self.owned for p in module.parameters())
        }
        if strangers:
            yield Finding(
                "no-gradient",
                "certain",
                "Modules run inside the model that it does not know: their weights are not trained, not moved and not saved.",
                f"{', '.join(sorted(strangers)[:5])} of {type(bare(self.doctor.trained)).__name__}; not in model.parameters(), not in the optimizer",
                [("they are kept in a plain Python list or dict", 0.95)],
                "torch.nn.ModuleList or ModuleDict",
                update,
            )
        elif age == 3:
            missing = [
                name
                for name, p in mine.items()
                if p.requires_grad and p.grad is not None and id(p) not in self.owned
            ]
            if (
                missing
                and len({id(bare(seen.module)) for seen in self.doctor.now.passes}) == 1
                and self.doctor.alone(optimizer)
            ):
                yield Finding(
                    "no-gradient",
                    "warning",
                    "Some tensors get gradients, but no optimizer has them: they never change.",
                    ", ".join(missing[:6]),
                    [("they were left out when the optimizer was made", 0.9)],
                    "optimizer = AdamW(model.parameters(), ...)",
                    update,
                )


def several(names):
    """Return True for tensors of more than one module: one alone may be a head whose loss comes later."""
    return len({name.rpartition(".")[0] for name in names}) > 1


def shrunk(now, was):
    """Return True if a gradient is a part of what it was at the last step, as where a program keeps it as momentum."""
    part = float((now * was).sum() / (was * was).sum().clamp(min=1e-30))
    return 0 < part < 0.999 and bool((now - part * was).norm() < 1e-3 * now.norm())


def alive(p):
    """Return True if a tensor has a gradient that is not 0 everywhere."""
    return p.grad is not None and bool(
        (p.grad._values() if p.grad.is_sparse else p.grad).count_nonzero()
    )


def small_share(optimizer, before):
    """Return which part of the sampled 16-bit values has changed in a step; 1 where there are none."""
    pairs = [
        (before[id(p)], sample(p))
        for group in optimizer.param_groups
        for p in group["params"]
        if p.dtype in (torch.bfloat16, torch.float16) and p.grad is not None and id(p) in before
    ]
    return (
        sum(int((old != now).sum()) for old, now in pairs) / sum(now.numel() for _, now in pairs)
        if pairs
        else 1
    )


def sample(p):
    """Return a few of a tensor's values, spread over it, as a copy."""
    flat = p.detach().reshape(-1)
    return flat[:: max(1, flat.numel() // SAMPLE)][:SAMPLE].clone()
