"""What can be seen of a training program from outside, with not a line of it changed.

PyTorch calls global hooks around every module and every optimizer step; `F.cross_entropy`, `Tensor.backward` and a few
methods of Transformers are wrapped. All of it only listens: values are kept detached, nothing is computed with random
numbers, and inside a compiled graph every wrapper steps aside at once (or it would break the graph).

The hooks report to a Doctor: passed(Pass), backward(loss, fresh), before_step, after_step, generated, saved ...
"""

import functools
import importlib.abc
import inspect
import sys
from collections import Counter
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)


@dataclass
class Loss:
    """One call of cross_entropy: what it was given, what it gave."""

    targets: torch.Tensor
    ignore: int
    reduction: str
    smoothing: float
    classes: int
    value: torch.Tensor


@dataclass
class Pass:
    """One forward pass of a whole model, its inputs by name, and the losses that were taken of it."""

    module: torch.nn.Module
    inputs: dict
    grad: bool
    training: bool
    losses: list = field(default_factory=list)
    strangers: list = field(
        default_factory=list
    )  # modules that ran inside and are none of the model's
    ran: set = field(
        default_factory=set
    )  # the ids of all that ran inside; both in the first updates only
    autocast: object = None  # the 16-bit type that autocast uses, if any
    hidden: object = None  # what attention was told to pass over (B, T), where a module inside the model was told
    rows: tuple = None  # kept by rows_of

    @property
    def ids(self):
        """The token ids that the model reads (B, T), or None when it reads something else."""
        named = [
            self.inputs.get(name) for name in ("input_ids", "inputs", "idx", "ids", "x", "tokens")
        ]
        for value in [*named, *self.inputs.values()]:
            if (
                isinstance(value, torch.Tensor)
                and value.ndim == 2
                and value.dtype in (torch.int64, torch.int32)
                and value.size(1) > 1
            ):
                return value
        return None


def bare(module):
    """Return a model without what DDP, DataParallel or torch.compile put around it."""
    while True:
        inner = getattr(module, "_orig_mod", None)
        if inner is None and type(module).__name__ in ("DistributedDataParallel", "DataParallel"):
            inner = module.module
        if inner is None:
            return module
        module = inner


def grouped():
    """Return True where several processes train one model."""
    return torch.distributed.is_available() and torch.distributed.is_initialized()


def transformed():
    """Return True inside torch.func's grad or vmap, where tensors stand for many and no number can be read."""
    return torch._C._functorch.maybe_current_level() is not None


@functools.lru_cache
def names_of(kind):
    """Return the names of the arguments of a module's forward; none of what TorchScript has compiled."""
    try:
        return list(inspect.signature(kind.forward).parameters)[1:]
    except (AttributeError, TypeError, ValueError):
        return []


def fits(signature, *args, **kwargs):
    """Return True if a function of this signature can be called so."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


FORMS = {
    "View",
    "UnsafeView",
    "Reshape",
    "ReshapeAlias",
    "Squeeze",
    "Unsqueeze",
    "Select",
    "Slice",
    "Transpose",
    "Permute",
    "T",
    "ToCopy",
    "Clone",
    "Alias",
}


def made_by(node):
    """Return the name of the operation that made a tensor, apart from those that only give it another form."""
    while (name := type(node).__name__.partition("Backward")[0]) in FORMS:
        node = node.next_functions[0][0]
    return name


class Hooks:
    """Listens on behalf of a doctor from attach() until detach()."""

    def __init__(self, doctor):
        self.doctor, self.depth, self.quiet, self.undo, self.given = doctor, 0, 0, [], Counter()
        self.current, self.last, self.known, self.stepping, self.fresh = None, None, None, 0, True

    # --- wrappers ---

    def wrap(self, owner, name, around):
        """Replace owner.name by around(original, *args, **kwargs) until detach()."""
        original, signature = getattr(owner, name), inspect.signature(around)

        @functools.wraps(original)
        def wrapper(*args, **kwargs):
            if (
                torch.compiler.is_compiling()
                or kwargs
                and not fits(signature, original, *args, **kwargs)
            ):
                return original(*args, **kwargs)
            return around(original, *args, **kwargs)

        setattr(owner, name, wrapper)
        self.undo.append(lambda: setattr(owner, name, original))

    def attach(self):
        module = torch.nn.modules.module
        handles = [
            module.register_module_forward_pre_hook(self.before_forward),
            module.register_module_forward_hook(
                self.after_forward, with_kwargs=True, always_call=True
            ),
            register_optimizer_step_pre_hook(self.before_step),
            register_optimizer_step_post_hook(self.after_step),
        ]
        self.undo += [handle.remove for handle in handles]
        self.wrap(F, "cross_entropy", self.cross_entropy)
        self.wrap(
            F, "nll_loss", self.cross_entropy
        )  # of logarithms of chances: the same, in two steps
        self.wrap(F, "binary_cross_entropy_with_logits", self.other_loss)
        self.wrap(F, "ctc_loss", self.other_loss)
        self.wrap(F, "kl_div", self.other_loss)
        self.wrap(torch.jit, "script", self.scripted)
        self.wrap(torch.Tensor, "backward", self.backward)
        self.wrap(torch.autograd, "grad", self.asked_for)
        self.wrap(torch, "load", self.load)
        self.wrap(torch, "save", self.store)
        self.wrap(torch.nn.Module, "state_dict", self.take_state)
        self.wrap(torch.nn.Module, "load_state_dict", self.load_state)
        self.wrap(torch.optim.swa_utils.AveragedModel, "update_parameters", self.average)
        self.wrap(torch.utils.data.dataloader._BaseDataLoaderIter, "__next__", self.take_batch)
        self.wrap(torch.optim.Optimizer, "load_state_dict", self.load_optimizer)
        self.wrap(torch.optim.lr_scheduler.LRScheduler, "step", self.scheduled)
        self.wrap(torch.amp.GradScaler, "scale", self.scaled)
        self.wrap(torch.amp.GradScaler, "unscale_", self.unscaled)
        self.wrap(torch.nn.utils, "clip_grad_norm_", self.clipped)
        self.finder = WhenImported(
            {
                "transformers.tokenization_utils_base": self.listen_to_tokenizers,
                "transformers.generation.utils": lambda m: self.wrap(
                    m.GenerationMixin, "generate", self.generate
                ),
                "transformers.modeling_utils": self.listen_to_models,
                "transformers.trainer": self.listen_to_trainer,
            }
        )
        return self

    def detach(self):
        """Leave everything as it was before attach()."""
        self.finder.remove()
        for undo in reversed(self.undo):
            undo()
        self.undo = []

    def listen_to_tokenizers(self, module):
        self.wrap(module.PreTrainedTokenizerBase, "__init__", self.made_tokenizer)
        self.wrap(module.PreTrainedTokenizerBase, "__call__", self.called_tokenizer)

    def listen_to_models(self, module):
        self.wrap(module.PreTrainedModel, "save_pretrained", self.save_model)
        self.wrap(module.PreTrainedModel, "resize_token_embeddings", self.resize)

    def listen_to_trainer(self, module):
        self.wrap(module.Trainer, "__init__", self.made_trainer)
        self.wrap(module.Trainer, "log", self.logged)
        self.wrap(module.Trainer, "train", self.train)

    def tell(self, event, *args):
        """Hand an event to the doctor; while the doctor itself runs the model, nothing is an event."""
        if not self.quiet:
            self.quiet += 1
            try:
                self.doctor.hear(event, *args)
            finally:
                self.quiet -= 1

    # --- the forward pass ---

    def before_forward(self, module, args):
        if torch.compiler.is_compiling() or self.quiet or transformed():
            return
        self.depth += 1
        if self.depth > 1:
            if self.current and self.known is not None:
                self.current.ran.add(id(module))
                if id(module) not in self.known and any(
                    p.requires_grad for p in module.parameters()
                ):
                    self.current.strangers.append(module)
        else:
            if (
                next(module.parameters(), None) is None
            ):  # a criterion: it belongs to the pass before it
                return
            first = (
                self.doctor.updates < 3
            )  # modules that run, and that the model does not know, are looked for then
            self.known = {id(inner) for inner in module.modules()} if first else None
            self.current = Pass(module, {}, torch.is_grad_enabled(), module.training)
            kind = (
                "cuda"
                if torch.is_autocast_enabled("cuda")
                else "cpu"
                if torch.is_autocast_enabled("cpu")
                else None
            )
            self.current.autocast = kind and torch.get_autocast_dtype(kind)

    def after_forward(self, module, args, kwargs, *output):
        if torch.compiler.is_compiling() or self.quiet or not self.depth or transformed():
            return
        self.depth -= 1
        if not output:  # it raised: torch then hands over no kwargs
            self.current = self.current if self.depth else None
        elif self.depth == 0 and self.current and self.current.module is module:
            self.current.inputs = dict(zip(names_of(type(bare(module))), args)) | kwargs
            self.last, self.current = self.current, None
            self.tell("passed", self.last)
        elif self.current and kwargs.get("key_padding_mask") is not None:
            self.current.hidden = kwargs["key_padding_mask"]
        elif self.current and getattr(kwargs.get("attention_mask"), "ndim", 0) == 2:
            self.current.hidden = kwargs["attention_mask"] == 0

    def cross_entropy(self, original, input, target, *args, **kwargs):
        value = original(input, target, *args, **kwargs)
        seen = self.current or self.last
        if seen and not self.quiet and not transformed():
            bound = (
                dict(
                    zip(
                        (
                            "weight",
                            "size_average",
                            "ignore_index",
                            "reduce",
                            "reduction",
                            "label_smoothing",
                        ),
                        args,
                    )
                )
                | kwargs
            )
            ignore, reduction = bound.get("ignore_index", -100), bound.get("reduction", "mean")
            classes = input.size(1) if input.ndim > 1 else input.size(0)
            seen.losses.append(
                Loss(
                    target.detach(),
                    ignore,
                    reduction,
                    bound.get("label_smoothing", 0.0),
                    classes,
                    value.detach(),
                )
            )
            self.tell("lost", seen)
            self.fed(original, input)
        return value

    def fed(self, original, input):
        """What a loss function is given, the first four times."""
        if input.requires_grad and self.given[original.__name__] < 4:
            self.given[original.__name__] += 1
            self.tell("fed", original.__name__, input.detach(), made_by(input.grad_fn))

    def other_loss(self, original, *args, **kwargs):
        self.fed(original, args[0] if args else kwargs.get("input", kwargs.get("log_probs")))
        return original(*args, **kwargs)

    def scripted(self, original, *args, _frames_up=0, **kwargs):
        """TorchScript reads the source of what it compiles: it is shown the functions as they were."""
        heard, F.cross_entropy = F.cross_entropy, inspect.unwrap(F.cross_entropy)
        try:
            return original(*args, _frames_up=_frames_up + 2, **kwargs)
        finally:
            F.cross_entropy = heard

    # --- the update ---

    def backward(self, original, tensor, *args, **kwargs):
        if self.doctor.updates < 4 and tensor.grad_fn:
            self.tell("traced", tensor.grad_fn)
        self.tell("backward", tensor.detach(), self.fresh)
        self.fresh, self.quiet = (
            False,
            self.quiet + 1,
        )  # recomputed activations are no forward passes
        try:
            return original(tensor, *args, **kwargs)
        finally:
            self.quiet -= 1
            self.tell("gradients_came")

    def asked_for(self, original, *args, **kwargs):
        """Gradients of something else than the weights: an attack, a penalty."""
        self.tell("asked_for")
        self.quiet += 1
        try:
            return original(*args, **kwargs)
        finally:
            self.quiet -= 1

    def before_step(self, optimizer, args, kwargs):
        self.stepping += 1  # a subclass that calls its parent's step steps once
        if self.stepping == 1:
            self.tell("before_step", optimizer)

    def after_step(self, optimizer, args, kwargs):
        self.stepping -= 1
        if self.stepping == 0:
            self.fresh, self.depth = True, 0
            self.tell("after_step", optimizer)

    def scheduled(self, original, scheduler, *args, **kwargs):
        self.tell("scheduled", scheduler)
        return original(scheduler, *args, **kwargs)

    def scaled(self, original, scaler, *args, **kwargs):
        self.tell("scaled", scaler.is_enabled())
        return original(scaler, *args, **kwargs)

    def unscaled(self, original, scaler, *args, **kwargs):
        self.tell("unscaled")
        return original(scaler, *args, **kwargs)

    def clipped(self, original, parameters, max_norm, *args, **kwargs):
        norm = original(parameters, max_norm, *args, **kwargs)
        if (
            self.doctor.updates < 40 and type(norm) is torch.Tensor
        ):  # to read it back makes a GPU wait
            self.tell("clipped", norm, max_norm)
        return norm

    # --- what surrounds it ---

    # what may be given by keyword has the name that it has there

    def load(self, original, f, *args, **kwargs):
        found = original(f, *args, **kwargs)
        self.tell("loaded", str(f), found)
        return found

    def store(self, original, obj, *args, **kwargs):
        self.tell("stored", obj)
        return original(obj, *args, **kwargs)

    def take_state(self, original, module, *args, **kwargs):
        found = original(module, *args, **kwargs)
        if not args and kwargs.get("destination") is None:  # not for a part of a larger state
            self.tell("state_taken", module, found)
        return found

    def load_state(self, original, module, state_dict, *args, **kwargs):
        self.tell("state_loaded", module, state_dict)
        return original(module, state_dict, *args, **kwargs)

    def average(self, original, averaged, *args, **kwargs):
        self.tell("average_moved", averaged)
        return original(averaged, *args, **kwargs)

    def take_batch(self, original, iterator):
        found = original(iterator)
        self.tell("batch_taken", iterator)
        return found

    def load_optimizer(self, original, optimizer, state_dict, *args, **kwargs):
        if state_dict.get(
            "state"
        ):  # Accelerate also calls it with nothing in it, to place the tensors
            self.tell("loaded_optimizer")
        return original(optimizer, state_dict, *args, **kwargs)

    def made_tokenizer(self, original, tokenizer, *args, **kwargs):
        original(tokenizer, *args, **kwargs)
        self.tell("tokenizer", tokenizer)

    def called_tokenizer(self, original, tokenizer, *args, **kwargs):
        self.tell("tokenized", tokenizer)
        return original(tokenizer, *args, **kwargs)

    def generate(self, original, model, *args, **kwargs):
        """The passes of a generation are no training; what goes in and what comes out is an event of its own."""
        self.quiet += 1
        try:
            found = original(model, *args, **kwargs)
        finally:
            self.quiet -= 1
        inputs = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
        self.tell(
            "generated",
            model,
            inputs,
            kwargs.get("attention_mask"),
            found if isinstance(found, torch.Tensor) else getattr(found, "sequences", None),
        )
        return found

    def save_model(self, original, model, save_directory, *args, **kwargs):
        state = dict(kwargs.get("state_dict") or {})  # saving empties it
        found = original(model, save_directory, *args, **kwargs)
        self.tell("saved", model, str(save_directory), state)
        return found

    def resize(self, original, model, *args, **kwargs):
        before = model.get_input_embeddings().weight.size(0)
        found = original(model, *args, **kwargs)
        self.tell("resized", before, model.get_input_embeddings().weight.size(0))
        return found

    def made_trainer(self, original, trainer, *args, **kwargs):
        original(trainer, *args, **kwargs)
        self.tell("trainer", trainer)

    def train(self, original, trainer, resume_from_checkpoint=None, *args, **kwargs):
        if resume_from_checkpoint:
            self.tell("resuming", str(resume_from_checkpoint))
        return original(trainer, resume_from_checkpoint, *args, **kwargs)

    def logged(self, original, trainer, logs, *args, **kwargs):
        self.tell("logged", logs)
        return original(trainer, logs, *args, **kwargs)


class WhenImported(importlib.abc.MetaPathFinder):
    """Calls a function with a module once that has been imported, now or later; imports nothing by itself."""

    def __init__(self, calls):
        self.calls = dict(calls)
        for name in [name for name in calls if name in sys.modules]:
            self.calls.pop(name)(sys.modules[name])
        sys.meta_path.insert(0, self)

    def remove(self):
        if self in sys.meta_path:
            sys.meta_path.remove(self)

    def find_spec(self, name, path=None, target=None):
        if name not in self.calls:
            return None
        others = (
            finder.find_spec(name, path, target)
            for finder in sys.meta_path
            if finder is not self and hasattr(finder, "find_spec")
        )
        spec = next(filter(None, others), None)
        if spec is None:
            return None
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            self.calls.pop(name)(module)

        spec.loader.exec_module = exec_module
        return spec
