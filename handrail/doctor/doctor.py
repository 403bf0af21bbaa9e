"""The doctor: hears what the hooks see, lets every probe look at it, keeps what they find. It changes nothing.

from handrail import Doctor
doctor = Doctor(model, optimizer=optimizer, tokenizer=tokenizer)
...
    optimizer.step()
    doctor.step(batch, loss)
print(doctor.report())
"""

import math
import os
import threading
from collections import Counter
from dataclasses import dataclass, field

import torch

from . import findings
from .hooks import Hooks, Pass, bare, grouped
from .probes import PROBES


@dataclass
class Update:
    """What was seen between two steps of the optimizer."""

    number: int
    passes: list = field(default_factory=list)  # forward passes that were trained on
    evals: list = field(default_factory=list)  # forward passes without a gradient
    losses: list = field(default_factory=list)  # what backward was called on, detached
    rates: list = field(default_factory=list)  # learning rate of each group of weights
    scheduled: Counter = field(
        default_factory=Counter
    )  # calls of step, of each scheduler: one may hold others


class Doctor:
    """Attach it once; `step` after every optimizer.step(); `findings` fill as mistakes show.

    Without a model it watches every model of the process (so does `handrail watch`). `events` it cannot see are listed
    in `left_out`. A probe that fails is switched off and listed there too: the training goes on as if it were not there.
    """

    def __init__(self, model=None, optimizer=None, scheduler=None, tokenizer=None):
        self.model, self.optimizer, self.tokenizers = (
            model and bare(model),
            optimizer,
            [tokenizer] if tokenizer else [],
        )
        self.used, self.scheduler, self.findings, self.left_out, self.updates, self.tell = (
            tokenizer,
            scheduler,
            [],
            [],
            0,
            None,
        )
        self.now, self.trained = Update(1), self.model
        self.reported, self.elsewhere, self.owner = (
            [],
            0,
            os.getpid(),
        )  # findings told; passes of other models since one of ours
        self.loaded = False  # were weights of the model read from a file?
        self.steppers, self.stepped = (
            {},
            {},
        )  # id(optimizer) -> the update in which it first stepped, and last
        self.read = []  # of the first passes, where several processes train: a number for what was read
        self.probes = [probe(self) for probe in PROBES]
        self.hooks = Hooks(self).attach()
        threading._register_atexit(
            self.leave
        )  # atexit itself comes when threads can no longer be started, to load a model with

    # --- what people call ---

    def step(self, batch=None, loss=None):
        """Note the end of an update; call it after optimizer.step(). `batch` may be a dict with input_ids and labels, or anything."""
        if loss is not None and not self.updates and not self.now.losses:
            self.left_out.append(
                "the optimizer's steps were not seen: is it a torch optimizer, and was the Doctor made before the loop?"
            )

    def report(self):
        """Return what was found so far, as a person reads it. What shows only at the end is told when the program ends."""
        self.reported = list(self.findings)
        return findings.report(self.findings, self.updates, self.left_out)

    def close(self):
        """Look at what can only be seen at the end, and stop listening. Called by `handrail watch`; calling it twice is fine."""
        if self.hooks.undo:
            self.hear("ended")
            self.hooks.detach()

    def leave(self):
        """When the program ends: look once more, and print what no report has told."""
        if self.hooks.undo and os.getpid() == self.owner:
            self.close()
            fresh = [finding for finding in self.findings if finding not in self.reported]
            if fresh and self.rank == 0:
                print(findings.report(fresh, self.updates), flush=True)

    @staticmethod
    def callback(tokenizer=None):
        """Return a callback for Transformers' and TRL's trainers: trainer.add_callback(Doctor.callback())."""
        from transformers import TrainerCallback

        class Callback(TrainerCallback):
            doctor = Doctor(tokenizer=tokenizer)

            def on_train_begin(self, args, state, control, model=None, processing_class=None, **_):
                if processing_class is not None and not self.doctor.tokenizers:
                    self.doctor.tokenizers.append(processing_class)
                for probe in self.doctor.probes:
                    probe.planned = state.max_steps

            def on_log(self, args, state, control, logs=None, **_):
                self.doctor.hear("logged", logs or {})

            def on_train_end(self, args, state, control, **_):
                self.doctor.hear(
                    "ended"
                )  # it stays: what is saved or written after the training is looked at when the program ends
                if state.is_world_process_zero:
                    print(self.doctor.report())

        return Callback()

    # --- what the hooks call ---

    def hear(self, event, *args):
        """Keep the books, then let every probe that listens to this event look."""
        with torch.no_grad():
            note = getattr(self, "note_" + event, None)
            if note and self.safely(self, note, args) is False:
                return
            for probe in list(self.probes):
                look = getattr(probe, event, None)
                if look is not None:
                    self.safely(
                        probe,
                        lambda *args: [self.found(finding) for finding in look(*args) or ()],
                        args,
                    )
            if event == "after_step":
                self.now = Update(self.updates + 1)

    def safely(self, who, look, args):
        """Return look(*args). A doctor must never stop a training: what fails is reported once, a probe is switched off."""
        try:
            return look(*args)
        except Exception as error:
            if who in self.probes:
                self.probes.remove(who)
            name, what = type(who).__name__, "left something out" if who is self else "switched off"
            if not any(line.startswith(f"{name}: ") for line in self.left_out):
                self.left_out.append(
                    f"{name}: {what} after update {self.updates}, it failed: {error!r}"[:300]
                )
            if os.environ.get("HANDRAIL_DEBUG"):
                raise

    def found(self, finding):
        """Keep a finding, once; a certain one replaces a warning of its name. What another one explains is not said."""
        old = next((known for known in self.findings if known.name == finding.name), None)
        if old and (old.level == finding.level or old.level == "certain"):
            return
        if any(finding.name in findings.FOLLOWS.get(known.name, ()) for known in self.findings):
            return
        explained = [
            known.name
            for known in self.findings
            if known.name in findings.FOLLOWS.get(finding.name, ())
        ]
        self.findings = [
            known for known in self.findings if known is not old and known.name not in explained
        ] + [finding]
        if self.tell:
            self.tell(finding, explained)

    def note_passed(self, seen: Pass):
        if self.model is not None and not shares(self.model, bare(seen.module)):
            self.elsewhere += seen.grad
            return False
        self.elsewhere = 0
        if seen.grad and self.updates < 8 and grouped():
            self.read.append(number_of(seen.inputs))
        seen.inputs = (
            seen.inputs if seen.ids is not None else {}
        )  # pictures are large, and nobody asks for them
        if seen.grad or seen.inputs:
            kept = self.now.passes if seen.grad else self.now.evals
            kept.append(seen)
            del kept[:-64]

    def note_backward(self, loss, fresh):
        self.now.losses.append(loss)

    def note_scheduled(self, scheduler):
        if not getattr(scheduler, "_is_initial", False):
            self.now.scheduled[id(scheduler)] += 1

    def note_tokenizer(self, tokenizer):
        if getattr(tokenizer, "chat_template", None) or len(self.tokenizers) < 8:
            self.tokenizers.append(tokenizer)

    def note_tokenized(self, tokenizer):
        self.used = tokenizer

    def note_before_step(self, optimizer):
        if self.optimizer is not None and optimizer is not getattr(
            self.optimizer, "optimizer", self.optimizer
        ):
            return False
        self.now.rates = [float(group.get("lr") or 0) for group in optimizer.param_groups]
        if (
            self.now.passes
            and bare(self.now.passes[-1].module) is not self.trained
            and self.model is None
        ):
            held = {id(p) for group in optimizer.param_groups for p in group["params"]}
            models = {bare(seen.module) for seen in self.now.passes}
            mine = [
                model for model in models if any(id(p) in held for p in model.parameters())
            ] or models
            self.trained = max(mine, key=lambda model: sum(p.numel() for p in model.parameters()))

    def note_after_step(self, optimizer):
        if self.optimizer is not None and optimizer is not getattr(
            self.optimizer, "optimizer", self.optimizer
        ):
            return False
        self.updates = self.now.number
        self.steppers.setdefault(id(optimizer), self.updates)
        self.stepped[id(optimizer)] = self.updates

    # --- what the probes ask ---

    def alone(self, optimizer):
        """Return True if no other optimizer has stepped since this one began."""
        return all(
            last < self.steppers[id(optimizer)]
            for other, last in self.stepped.items()
            if other != id(optimizer)
        )

    @property
    def rank(self):
        return torch.distributed.get_rank() if grouped() else int(os.environ.get("RANK", 0))

    @property
    def tokenizer(self):
        """The tokenizer that was used last, else the one that was made last, or None."""
        return self.used or self.tokenizers[-1] if self.tokenizers else None

    def ends(self):
        """Return the ids that end an answer or a document, as far as tokenizer and model say."""
        found = set()
        sources = [
            getattr(self.trained, "generation_config", None),
            getattr(self.trained, "config", None),
            self.tokenizer,
        ]
        for source in sources if self.tokenizer else []:
            value = getattr(source, "eos_token_id", None)
            found |= set(value if isinstance(value, (list, tuple)) else [value])
        vocabulary = self.tokenizer.get_vocab() if self.tokenizer else {}
        found |= {
            vocabulary.get(mark)
            for mark in ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "</s>")
        }
        return found - {None}

    def was_loaded(self):
        return self.loaded or bool(
            getattr(getattr(self.trained, "config", None), "_name_or_path", "")
        )

    def knew(self):
        """Return True if the model knew something before: it was loaded, or its first loss is far below that of chance."""
        first, classes = next(
            ((p.losses[0], p.classes) for p in self.probes if getattr(p, "losses", None)), (None, 0)
        )
        return (
            self.was_loaded()
            or first is not None
            and classes > 1
            and first < 0.85 * math.log(classes)
        )

    def decode(self, ids):
        """Return tokens as text, or as numbers where no tokenizer is known."""
        ids = [int(i) for i in ids]
        return repr(self.tokenizer.decode(ids)) if self.tokenizer else f"tokens {ids}"


def shares(model, other):
    """Return True if two modules hold a parameter in common."""
    mine = {id(p) for p in model.parameters()}
    return any(id(p) in mine for p in other.parameters())


def number_of(inputs):
    """Return a number for the tensors that a model was given; the same rows have the same."""
    return round(
        sum(
            value.double().sum().item()
            for value in inputs.values()
            if isinstance(value, torch.Tensor) and not value.is_complex()
        ),
        3,
    )
