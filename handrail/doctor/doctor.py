"""The doctor: takes what the hooks hear, keeps the record, and lets every probe look at it.

from handrail import Doctor
doctor = Doctor(model, optimizer=optimizer, scheduler=scheduler, tokenizer=tokenizer)
...
    optimizer.step()
    doctor.step(batch, loss)
print(doctor.report())

It changes nothing: no weight, no random number, no mode.
"""

import os
import threading
from concurrent.futures import process, thread  # they register their own ends before ours
from weakref import ref

import torch

from . import findings
from .hooks import Hooks, Pass, bare, grouped
from .no_trace import from_signal
from .probes import PROBES
from .record import History, Update, alive, close, parameters, sample
from .rows_read import RowsRead

WHOLE = (2, 20)  # updates in which all that is read is kept until they end
ENDS = ("<|im_end|>", "<|eot_id|>", "<end_of_turn>", "<|endoftext|>", "</s>")


class Doctor:
    """Make it once; call `step` after every optimizer.step(). `findings` fill as mistakes show.

    Without a model it watches every model of the process (so does `handrail watch`). What it cannot
    see is listed in `left_out`. A probe that fails is switched off and listed there too: the
    training continues as if the doctor were not there.
    """

    def __init__(self, model=None, optimizer=None, scheduler=None, tokenizer=None):
        self.model = self.trained = None if model is None else bare(model)
        self.optimizer = getattr(optimizer, "optimizer", optimizer)  # without Accelerate's wrapper
        self.scheduler = getattr(scheduler, "scheduler", scheduler)
        self.scheduled = self.place_of_scheduler()
        self.tokenizers = [] if tokenizer is None else [tokenizer]
        self.used = tokenizer
        self.now, self.history, self.rows = Update(1), History(), RowsRead()
        self.heard_loss = self.heard_targets = False  # in the last update
        self.updates, self.findings, self.left_out, self.reported = 0, [], [], []
        self.tell = None  # called with each finding, and the names of those it explains
        self.given = []  # passes made of the batches that `step` was given
        self.elsewhere = 0  # passes of other models since one of ours
        self.cut_short = False  # did an exception or an exit code end the program, as Ctrl-C does?
        self.loaded = False  # were weights of the model read from a file?
        self.steppers, self.stepped = {}, {}  # id(optimizer): its first update, and its last
        self.optimizers = {}  # id(optimizer): a weak reference, since ids are used again
        self.read = []  # of the first passes of several processes: a number for what was read
        self.owner = os.getpid()
        self.probes = [probe(self) for probe in PROBES]
        self.hooks = Hooks(self).attach()
        # atexit comes when threads can no longer be started, which loading a model needs
        threading._register_atexit(self.leave)

    # --- what people call ---

    def step(self, batch=None, loss=None):
        """Note the end of an update; call it after optimizer.step().

        The hooks hear most models and losses by themselves. What they did not hear is taken from
        here: `loss`, and `batch` where it is a dict with labels.
        """
        if not self.updates:
            if loss is not None and not self.left_out:
                self.left_out.append(
                    "the optimizer's steps were not seen: is it an optimizer of torch, and was the "
                    "Doctor made before the loop?"
                )
            return
        if isinstance(loss, torch.Tensor) and not self.heard_loss:
            self.history.losses.append(float(loss.detach().reshape(-1)[0]))
        inputs = dict(batch) if hasattr(batch, "keys") else {}
        if self.trained is None or self.heard_targets:
            return
        seen = Pass(self.trained, inputs, True, self.trained.training)
        if seen.ids is not None and isinstance(inputs.get("labels"), torch.Tensor):
            self.given = [*self.given, seen][-8:]

    def report(self):
        """Return what was found so far, as a person reads it.

        What shows only at the end is told when the program ends.
        """
        self.reported = list(self.findings)
        return findings.report(self.findings, self.updates, self.left_out)

    def close(self):
        """Look at what can only be seen at the end, and stop listening. Twice does no harm."""
        if self.hooks.undo:
            self.hear("ended")
            self.hooks.detach()

    def leave(self):
        """When the program ends: look once more, and print what no report has told."""
        if self.hooks.undo and os.getpid() == self.owner:
            wait_for_threads()
            self.close()
            new = [finding for finding in self.findings if finding not in self.reported]
            if new and self.rank == 0:
                print(findings.report(new, self.updates), flush=True)

    @staticmethod
    def callback(tokenizer=None):
        """Return a callback for trainers of Transformers and TRL: trainer.add_callback(...)."""
        from transformers import TrainerCallback

        class Callback(TrainerCallback):
            doctor = Doctor(tokenizer=tokenizer)

            def on_train_begin(self, args, state, control, processing_class=None, **_):
                if processing_class is not None and not self.doctor.tokenizers:
                    self.doctor.tokenizers.append(processing_class)

            def on_log(self, args, state, control, logs=None, **_):
                self.doctor.hear("logged", logs or {})

            def on_train_end(self, args, state, control, **_):
                self.doctor.hear("ended")  # it listens on: what is saved later is looked at too
                if state.is_world_process_zero:
                    print(self.doctor.report())

        return Callback()

    # --- what the hooks call ---

    def hear(self, event, *args):
        """Keep the record, then let every probe that has a method of this name look."""
        with torch.no_grad():
            note = getattr(self, "note_" + event, None)
            if note and self.safely(self, note, args) is False:
                return
            for probe in list(self.probes):
                if hasattr(type(probe), event):  # what it keeps may have the name of an event
                    self.safely(probe, self.collect, (getattr(type(probe), event), (probe, *args)))
            if event == "after_step":
                self.hear("rows_read")
                self.now = Update(self.updates + 1, age=self.now.age + 1)

    def collect(self, look, args):
        for finding in look(*args) or ():
            self.found(finding)

    def safely(self, who, look, args):
        """Return look(*args). What fails is reported once; a probe is then switched off."""
        try:
            return look(*args)
        except Exception as error:
            if from_signal(error):
                raise
            what = "left something out"
            if who in self.probes:
                self.probes.remove(who)
                what = "switched off"
            name = type(who).__name__
            if not any(line.startswith(f"{name}: ") for line in self.left_out):
                line = f"{name}: {what} after update {self.updates}, it failed: {error!r}"
                self.left_out.append(line[:300])
            if os.environ.get("HANDRAIL_DEBUG"):
                raise

    def found(self, finding):
        """Keep a finding once; a certain one replaces a warning of the same name.

        What another finding explains is not said.
        """
        old = next((known for known in self.findings if known.name == finding.name), None)
        if old and (old.level == finding.level or old.level == "certain"):
            return
        if any(findings.follows(finding.name, known.name) for known in self.findings):
            return
        names = [known.name for known in self.findings]
        explained = [name for name in names if findings.follows(name, finding.name)]
        gone = [finding.name, *explained]
        self.findings = [known for known in self.findings if known.name not in gone] + [finding]
        if self.tell:
            self.tell(finding, explained)

    # --- the record ---

    def note_passed(self, seen: Pass):
        if self.model is not None and not shares(self.model, bare(seen.module)):
            self.elsewhere += seen.grad
            return False
        self.elsewhere = 0
        if seen.grad and self.updates < 8 and grouped():
            self.read.append(number_of(seen.inputs))
        if seen.ids is None and not (seen.grad and self.now.number in WHOLE):
            seen.inputs = {}  # pictures are large, and later on unused
        if seen.grad or seen.inputs:
            kept = self.now.passes if seen.grad else self.now.evals
            kept.append(seen)
            del kept[:-64]

    def note_lost(self, seen):
        if seen.grad:
            self.history.heard(seen)

    def note_backward(self, loss, fresh):
        if not loss.is_complex():
            self.now.losses.append(loss)

    def note_clipped(self, norm, most):
        self.history.clipped.append(float(norm) / max(float(most), 1e-30))

    def note_generated(self, *_):
        self.history.generated += 1

    def note_scheduled(self, scheduler):
        if not getattr(scheduler, "_is_initial", False):
            self.now.scheduled[id(scheduler)] += 1

    def note_tokenizer(self, tokenizer):
        if getattr(tokenizer, "chat_template", None) or len(self.tokenizers) < 8:
            self.tokenizers.append(tokenizer)

    def note_tokenized(self, tokenizer):
        self.used = tokenizer

    def note_before_step(self, optimizer):
        if self.is_other(optimizer):
            return False
        self.note_identity(optimizer)
        now = self.now
        now.rates = [float(group.get("lr") or 0) for group in optimizer.param_groups]
        now.age = now.number - self.steppers.get(id(optimizer), now.number) + 1
        self.find_trained(optimizer)
        if self.trained is not None and (close(now.number) or close(now.age)):
            tensors = parameters(optimizer)
            now.before = {id(p): sample(p) for p in tensors}
            now.moving = any(map(alive, tensors))
            self.history.owned |= now.before.keys()

    def note_identity(self, optimizer):
        """One that is gone may have had the id of this one: its updates are kept elsewhere."""
        me = id(optimizer)
        known = self.optimizers.get(me)
        if known is not None and known() is not optimizer and me in self.steppers:
            gone = "gone", len(self.steppers)
            self.steppers[gone], self.stepped[gone] = self.steppers.pop(me), self.stepped.pop(me, 0)
        self.optimizers[me] = ref(optimizer)

    def note_after_step(self, optimizer):
        if self.is_other(optimizer):
            return False
        now = self.now
        self.updates = now.number
        self.steppers.setdefault(id(optimizer), self.updates)
        self.stepped[id(optimizer)] = self.updates
        self.heard_loss = bool(now.losses)
        self.heard_targets = any(seen.losses or "labels" in seen.inputs for seen in now.passes)
        if self.given:
            now.passes, self.given = self.given, []
        self.count_scheduler()
        new = self.steppers[id(optimizer)] == self.updates > 1 and self.alone(optimizer)
        self.history.add(now, new)
        if now.before:
            self.history.measure(optimizer, now, self.names())

    def note_rows_read(self):
        self.rows.add(self.now, self.trained)

    def note_ended(self):
        self.count_scheduler()

    def is_other(self, optimizer):
        """Return True for an optimizer that the Doctor was not made for."""
        return self.optimizer is not None and optimizer is not self.optimizer

    def find_trained(self, optimizer):
        """Note which model is trained: the largest that ran and shares a tensor with it."""
        passes = self.now.passes
        if self.model is not None or not passes or bare(passes[-1].module) is self.trained:
            return
        held = {id(p) for p in parameters(optimizer)}
        models = {bare(seen.module) for seen in passes}
        mine = [model for model in models if any(id(p) in held for p in model.parameters())]
        self.trained = max(mine or models, key=size_of)

    def place_of_scheduler(self):
        """Return how many steps the scheduler that was given has made, None if unknown."""
        place = getattr(self.scheduler, "last_epoch", None)
        return place if isinstance(place, int) else None

    def count_scheduler(self):
        """Note the steps of the scheduler that was given: not every one can be heard."""
        place = self.place_of_scheduler()
        if place is not None:
            self.now.scheduled.clear()
            self.now.scheduled[id(self.scheduler)] = place - self.scheduled
            self.scheduled = place

    # --- what the probes ask ---

    def alone(self, optimizer):
        """Return True if no other optimizer has stepped since this one began."""
        first = self.steppers[id(optimizer)]
        return all(last < first for other, last in self.stepped.items() if other != id(optimizer))

    def names(self):
        """Return {id(tensor): its name} of the model that is trained."""
        named = self.trained.named_parameters() if self.trained is not None else ()
        return {id(p): name for name, p in named}

    def has_lora(self):
        """Return True if LoRA's matrices are trained."""
        named = self.trained.named_parameters() if self.trained is not None else ()
        return any("lora_" in name for name, p in named if p.requires_grad)

    @property
    def rank(self):
        return torch.distributed.get_rank() if grouped() else int(os.environ.get("RANK", 0))

    @property
    def tokenizer(self):
        """The tokenizer that was used last, else the one that was made last, or None."""
        return self.used or self.tokenizers[-1] if self.tokenizers else None

    def ends(self):
        """Return the ids that end an answer or a document, as far as tokenizer and model say."""
        if self.tokenizer is None:
            models = []
        else:
            models = [getattr(self.trained, name, None) for name in ("generation_config", "config")]
        found = set()
        for source in [*models, self.tokenizer]:
            value = getattr(source, "eos_token_id", None)
            found |= set(value if isinstance(value, (list, tuple)) else [value])
        vocabulary = self.tokenizer.get_vocab() if self.tokenizer is not None else {}
        return (found | {vocabulary.get(mark) for mark in ENDS}) - {None}

    def was_loaded(self):
        config = getattr(self.trained, "config", None)
        return self.loaded or bool(getattr(config, "_name_or_path", ""))

    def knew(self):
        """Return True if the model knew something: it was loaded, or its first loss was low."""
        return self.was_loaded() or self.history.knew()

    def decode(self, ids):
        """Return tokens as text, or as numbers where no tokenizer is known."""
        ids = [int(i) for i in ids]
        return repr(self.tokenizer.decode(ids)) if self.tokenizer else f"tokens {ids}"


def wait_for_threads():
    """Wait until the program's own threads end, as Python does a moment later: one may train."""
    pools = {*thread._threads_queues, *process._threads_wakeups}  # these end when they are told to
    for other in threading.enumerate():
        if not other.daemon and other is not threading.main_thread() and other not in pools:
            other.join()


def shares(model, other):
    """Return True if two modules have a parameter in common."""
    mine = {id(p) for p in model.parameters()}
    return any(id(p) in mine for p in other.parameters())


def size_of(model):
    return sum(p.numel() for p in model.parameters())


def number_of(inputs):
    """Return a number for the tensors that a model was given; the same rows have the same."""
    tensors = [value for value in inputs.values() if isinstance(value, torch.Tensor)]
    return round(sum(v.double().sum().item() for v in tensors if not v.is_complex()), 3)
