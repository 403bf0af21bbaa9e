"""What can be seen of a training program from outside, with not a line of it changed.

PyTorch calls global hooks around every module and every optimizer step. The loss functions,
Tensor.backward and a few methods of Transformers are wrapped. All of it only listens: values are
kept detached, nothing is computed with random numbers, and inside a compiled graph every wrapper
steps aside at once, or it would break the graph.

The hooks report events to a Doctor: passed(Pass), answered(Pass, output) of one without gradients,
lost(Pass), backward(loss, fresh), before_step, after_step, encoded(tokenizer, text), generated,
saved ...
"""

import functools
import inspect
from collections import Counter
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary, ref

import torch
import torch.nn.functional as F
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import _disable_current_modes
from torch.utils.hooks import unserializable_hook

from . import losses
from .attach.handrail_on_import import WhenImported

IDS = ("input_ids", "inputs", "idx", "ids", "x", "tokens")  # what people call them
LOSSES = ("cross_entropy", "nll_loss", "linear_cross_entropy")
FED = 4  # calls of a loss function whose inputs are looked at
COUNTED = 12  # calls of it whose targets are counted
SCORED = (50, 75, 100, 125)  # updates after which scores are looked at once more
OTHER_LOSSES = ("binary_cross_entropy_with_logits", "ctc_loss", "kl_div")
REGRESSIONS = ("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss")
UNSEEN = f"{__file__} (importlib._bootstrap)"  # frames that no warning says to come from
EVERY = 400  # updates in which each loss is looked for in the graph; then every tenth
IN_VAIN = 10  # backward passes without a loss over classes, until it is no longer looked for


@dataclass
class Pass:
    """One forward pass of a whole model, its inputs by name, and the losses taken of it."""

    module: torch.nn.Module
    inputs: dict
    grad: bool
    training: bool
    losses: list = field(default_factory=list)
    strangers: list = field(default_factory=list)  # modules that ran inside, none of the model's
    ran: set = field(default_factory=set)  # ids of all that ran inside; both at first only
    autocast: object = None  # the 16-bit type that autocast uses, if any
    hidden: object = None  # what attention was told to skip (B, T), where an inner module was told
    rows: tuple = None  # kept by rows_of

    @property
    def ids(self):
        """The token ids that the model reads (B, T), or None when it reads something else."""
        for value in [*map(self.inputs.get, IDS), *self.inputs.values()]:
            if are_ids(value):
                return value
        return None


def are_ids(value):
    """Return True for a tensor that may hold rows of token ids."""
    whole = isinstance(value, torch.Tensor) and value.dtype in (torch.int64, torch.int32)
    return whole and not value.is_nested and value.ndim == 2 and value.size(1) > 1


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
    """Return True inside torch.func's grad or vmap, where no number of a tensor can be read."""
    return torch._C._functorch.maybe_current_level() is not None


def traced():
    """Return True while a model is only followed: by torch.jit.trace, make_fx, fake tensors."""
    kinds, mode = torch._C._TorchDispatchModeKey, torch._C._get_dispatch_mode
    return torch.jit.is_tracing() or any(
        mode(kind) is not None for kind in (kinds.FAKE, kinds.PROXY)
    )


def without_modes():
    """Return a context in which no mode of the program sees what is done, as one that counts."""
    return _disable_current_modes() if torch._C._len_torch_dispatch_stack() else nullcontext()


def autocast_type():
    """Return the 16-bit type that autocast uses, or None where it is off."""
    for device in ("cuda", "cpu"):
        if torch.is_autocast_enabled(device):
            return torch.get_autocast_dtype(device)
    return None


@functools.lru_cache
def names_of(kind):
    """Return the argument names of a module's forward; none of what TorchScript has compiled."""
    try:
        return list(inspect.signature(kind.forward).parameters)[1:]
    except (AttributeError, TypeError, ValueError):
        return []


def named(module, args, kwargs):
    """Return the arguments of a call of a module by name."""
    return dict(zip(names_of(type(bare(module))), args, strict=False)) | kwargs


def fits(signature, *args, **kwargs):
    """Return True if a function of this signature can be called so."""
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


def tensors_in(output):
    """Return the tensors that a module gave: itself, or those of a tuple or a dict."""
    if isinstance(output, dict):
        output = list(output.values())
    parts = output if isinstance(output, (list, tuple)) else [output]  # an iterator stays unread
    return [part for part in parts if isinstance(part, torch.Tensor)]


class Hooks:
    """Listens on behalf of a doctor from attach() until detach()."""

    def __init__(self, doctor):
        self.doctor, self.undo = doctor, []
        self.quiet = 0  # above 0 while nothing is an event: the doctor's own passes, a backward
        self.depth = 0  # of the module that runs
        self.current = self.last = None  # the Pass under way, and the one before it
        self.root = None  # the module that the current Pass began with
        self.given = []  # series and pictures that it was given; in the first updates only
        self.known = None  # ids of the modules of the model; in the first updates only
        self.used = True  # went a backward through the last Pass?
        self.apart = False  # does the module under way go on from what the last Pass gave?
        self.outputs = []  # what the last Pass gave, without keeping it in memory
        self.parents = WeakKeyDictionary()  # module: the module that it was given to
        self.wholes = WeakKeyDictionary()  # part of a model that runs by itself: that model
        self.fed_to = Counter()  # loss function: calls whose input was reported
        self.inside = 0  # above 0 inside a loss function
        self.heard = False  # was a loss of this update heard?
        self.in_vain = 0  # backward passes in whose graph no loss over classes was found
        self.packed = False  # are tensors of the graph kept elsewhere, so that reading is work?
        self.stepping, self.fresh = 0, True

    # --- wrappers ---

    def wrap(self, owner, name, around):
        """Replace owner.name by around(original, *args, **kwargs) until detach()."""
        original, signature = getattr(owner, name), inspect.signature(around)

        @functools.wraps(original)
        def wrapper(*args, **kwargs):
            if torch.compiler.is_compiling() or not self.undo:  # another doctor may have kept it
                return original(*args, **kwargs)
            if kwargs and not fits(signature, original, *args, **kwargs):
                return original(*args, **kwargs)
            return around(original, *args, **kwargs)

        for function in (wrapper, around.__func__):
            function.__code__ = function.__code__.replace(co_filename=UNSEEN)

        def undo():
            if getattr(owner, name) is wrapper:  # else another doctor listens as well
                setattr(owner, name, original)

        setattr(owner, name, wrapper)
        self.undo.append(undo)

    def attach(self):
        module = torch.nn.modules.module
        after = module.register_module_forward_hook(
            self.after_forward, with_kwargs=True, always_call=True
        )
        left = module._global_forward_hooks_with_kwargs  # when it is removed, its number stays here
        self.undo.append(functools.partial(left.pop, after.id, None))
        self.undo += [
            handle.remove
            for handle in (
                module.register_module_forward_pre_hook(self.before_forward),
                after,
                module.register_module_module_registration_hook(self.registered),
                register_optimizer_step_pre_hook(self.before_step),
                register_optimizer_step_post_hook(self.after_step),
            )
        ]
        for parent in self.doctor.model.modules() if self.doctor.model is not None else ():
            for name, module in parent.named_children():
                self.registered(parent, name, module)
        self.wrap_losses()
        self.wrap_training()
        self.finder = WhenImported(
            {
                "transformers.tokenization_utils_base": self.wrap_tokenizers,
                "transformers.generation.utils": self.wrap_generation,
                "transformers.modeling_utils": self.wrap_models,
                "transformers.trainer": self.wrap_trainer,
                "peft.peft_model": self.wrap_adapters,
            }
        )
        return self

    def detach(self):
        """Leave everything as it was before attach()."""
        self.finder.remove()
        for undo in reversed(self.undo):
            undo()
        self.undo = []

    def wrap_losses(self):
        for name in LOSSES:
            if hasattr(F, name):  # linear_cross_entropy came with torch 2.13
                self.wrap(F, name, getattr(self, name, self.cross_entropy))
        for name in OTHER_LOSSES:
            self.wrap(F, name, self.other_loss)
        for name in REGRESSIONS:
            self.wrap(F, name, self.regression)
        self.wrap_functions()
        self.wrap(torch.jit, "script", self.scripted)
        self.wrap(torch.autograd.graph.saved_tensors_hooks, "__enter__", self.packs)

    def wrap_functions(self):
        """Listen to every autograd.Function: a fused loss is one. `apply` is a class method."""
        kind = torch.autograd.Function
        original = vars(kind)["apply"]

        @functools.wraps(original.__func__)
        def apply(cls, *args, **kwargs):
            if torch.compiler.is_compiling() or not self.undo:
                return original.__func__(cls, *args, **kwargs)
            return self.function(original.__func__, cls, *args, **kwargs)

        kind.apply = classmethod(apply)
        self.undo.append(lambda: setattr(kind, "apply", original))

    def wrap_training(self):
        self.wrap(torch.nn.Module, "compile", self.compiled)
        if hasattr(torch.nn.modules.module, "_has_any_global_hook"):
            self.wrap(torch.nn.modules.module, "_has_any_global_hook", self.others_listen)
        self.wrap(torch.Tensor, "backward", self.backward)
        self.wrap(torch.autograd, "grad", self.asked_for)
        self.wrap(torch, "load", self.load)
        self.wrap(torch, "save", self.store)
        self.wrap(torch, "manual_seed", self.seed)
        self.wrap(torch.nn.Module, "state_dict", self.take_state)
        self.wrap(torch.nn.Module, "load_state_dict", self.load_state)
        self.wrap(torch.optim.swa_utils.AveragedModel, "update_parameters", self.average)
        self.wrap(torch.utils.data.dataloader._BaseDataLoaderIter, "__next__", self.take_batch)
        self.wrap(torch.optim.Optimizer, "load_state_dict", self.load_optimizer)
        self.wrap(torch.optim.lr_scheduler.LRScheduler, "step", self.scheduled)
        self.wrap(torch.amp.GradScaler, "scale", self.scaled)
        self.wrap(torch.amp.GradScaler, "unscale_", self.unscaled)
        for name in ("clip_grad_norm_", "clip_grad_norm"):  # an older name, still in use
            self.wrap(torch.nn.utils, name, self.clipped)

    def wrap_tokenizers(self, module):
        self.wrap(module.PreTrainedTokenizerBase, "__init__", self.made_tokenizer)
        self.wrap(module.PreTrainedTokenizerBase, "__call__", self.called_tokenizer)
        self.wrap(module.PreTrainedTokenizerBase, "encode", self.encode)

    def wrap_generation(self, module):
        self.wrap(module.GenerationMixin, "generate", self.generate)

    def wrap_models(self, module):
        self.wrap(module.PreTrainedModel, "save_pretrained", self.save_model)
        self.wrap(module.PreTrainedModel, "resize_token_embeddings", self.resize)

    def wrap_trainer(self, module):
        self.wrap(module.Trainer, "log", self.logged)
        self.wrap(module.Trainer, "train", self.train)
        if hasattr(module.Trainer, "_remove_unused_columns"):  # a name that may go
            self.wrap(module.Trainer, "_remove_unused_columns", self.drop_columns)

    def wrap_adapters(self, module):
        self.wrap(module.PeftModel, "save_pretrained", self.save_adapter)

    def tell(self, event, *args):
        """Report an event to the doctor; while the doctor runs the model, nothing is an event."""
        if not self.deaf():
            self.quiet += 1
            try:
                with torch._C.DisableTorchFunction(), without_modes():
                    self.doctor.hear(event, *args)
            finally:
                self.quiet -= 1

    def listen(self, look, *args):
        """Return look(*args): it may fail, the program continues."""
        with torch._C.DisableTorchFunction(), without_modes():
            return self.doctor.safely(self.doctor, look, args)

    def deaf(self):
        return torch.compiler.is_compiling() or self.quiet > 0 or transformed() or traced()

    # --- the forward pass ---

    def registered(self, parent, name, module):
        try:
            self.parents[module] = ref(parent)
        except Exception:  # None, or a module that is compared by its values
            return

    def before_forward(self, module, args):
        if self.deaf():
            return
        self.depth += 1
        if self.depth == 1:
            self.listen(self.begin, module, args)
        elif self.current and self.known is not None:
            self.listen(self.note_ran, module, args)

    def begin(self, module, args):
        """A module is called by the program itself: a model, a part of one, or a criterion."""
        self.current, self.apart, self.root = None, False, module
        self.apart = self.goes_on(args)
        first = next(iter(module.parameters()), None)
        if first is None or first.is_meta:  # a criterion: it belongs to the pass before
            return
        if self.apart and self.joined(module):
            return
        model = self.wholes.get(bare(module), module)
        self.current = Pass(model, {}, torch.is_grad_enabled(), module.training)
        self.current.autocast = autocast_type()
        first = self.doctor.updates < 3  # what runs, unknown to the model, is looked for then
        self.known = {id(inner) for inner in model.modules()} if first else None
        tensors = [arg for arg in args if isinstance(arg, torch.Tensor)] if first else []
        self.given = [arg for arg in tensors if arg.ndim > 2]

    def note_ran(self, module, args):
        self.current.ran.add(id(module))
        if self.given:
            self.tell("entered", module, self.given, args)
        if id(module) not in self.known and any(p.requires_grad for p in module.parameters()):
            self.current.strangers.append(module)

    def goes_on(self, args):
        """Return True if a module is given what the last Pass over tokens gave: a head, often."""
        last = self.last
        if last is None or self.used or last.grad != torch.is_grad_enabled() or last.ids is None:
            return False
        given = [arg for arg in args if isinstance(arg, torch.Tensor)]
        return not any(map(are_ids, given)) and any(map(self.comes_from_last, given))

    def comes_from_last(self, value):
        if value.grad_fn is not None or not value.is_floating_point():
            return value.grad_fn is not None
        given = [output for output in (kept() for kept in self.outputs) if output is not None]
        return any(value is output or value._base is output for output in given)

    def joined(self, module):
        """If a module and that of the last Pass are parts of one model, make it a Pass of that."""
        part, last = bare(self.last.module), self.last
        if any(inner is module for inner in part.modules()):
            model = part
        else:
            above = self.above(part)
            model = next((each for each in self.above(module) if each in above), None)
        if model is None:
            return False
        if model is not part:
            self.wholes[part] = model
            values = list(last.inputs.values())
            last.inputs = named(model, values[:1], dict(list(last.inputs.items())[1:]))
            last.module = model
        if self.known is not None:
            last.ran |= {id(inner) for inner in module.modules()}
        return True

    def above(self, module):
        """Return a module's parents, the nearest first."""
        found = []
        while module in self.parents and len(found) < 20:
            module = self.parents[module]()
            if module is None:
                break
            found.append(module)
        return found

    def after_forward(self, module, args, kwargs, *output):
        if self.deaf() or not self.depth:
            return
        self.depth -= 1
        done, hidden = self.current, output and kwargs  # if it raised, torch hands over no kwargs
        if self.depth == 0 and module is self.root:
            self.current, self.given = None, []
            if output:
                self.listen(self.end, done, args, kwargs, *output)
        elif done and hidden and kwargs.get("key_padding_mask") is not None:
            done.hidden = kwargs["key_padding_mask"]
        elif done and hidden and getattr(kwargs.get("attention_mask"), "ndim", 0) == 2:
            done.hidden = self.listen(kwargs["attention_mask"].__eq__, 0)

    def end(self, done, args, kwargs, output):
        if done is not None:
            done.inputs = named(done.module, args, kwargs)
            if not self.apart:
                self.last, self.used = done, False
        if self.last is not None and (done is not None or self.apart):
            self.outputs = [ref(tensor) for tensor in tensors_in(output)]
        if done is not None:
            if not done.grad and done.module is self.root:
                self.tell("answered", done, output)
            self.tell("passed", done)

    def compiled(self, original, module, *args, **kwargs):
        """model.compile() puts the hooks into the graph, where they are silent: call them here."""
        original(module, *args, **kwargs)
        run = module._compiled_call_impl

        def heard(*args, **kwargs):
            if self.deaf() or not self.undo:
                return run(*args, **kwargs)
            self.before_forward(module, args)
            output = ()
            try:
                output = (run(*args, **kwargs),)
            finally:
                self.after_forward(module, args, kwargs, *output)
            return output[0]

        module._compiled_call_impl = heard

    def others_listen(self, original):
        """Return True if the program has such hooks too: of ours, torch.compile need not warn."""
        module = torch.nn.modules.module
        both = module._global_forward_pre_hooks, module._global_forward_hooks
        back = module._global_backward_pre_hooks, module._global_backward_hooks
        return any(len(hooks) > 1 for hooks in both) or any(back)

    # --- losses ---

    def cross_entropy(self, original, input, target, *args, **kwargs):
        self.inside += 1
        try:
            value = original(input, target, *args, **kwargs)
        finally:
            self.inside -= 1
        if self.hears():
            self.listen(self.called, original, input, target, value, args, kwargs)
        return value

    def called(self, original, input, target, value, args, kwargs):
        if isinstance(value, torch.Tensor):  # else torch.fx only follows what is done
            options = losses.options(args, kwargs)
            self.lost(losses.of_call(input, target, value, options), value)
            self.fed(original, input, target, options)
            if self.doctor.updates in SCORED and input.requires_grad:
                self.tell("scored", input.detach(), target.detach())

    def linear_cross_entropy(self, original, input, linear_weight, target, *args, **kwargs):
        self.inside += 1
        try:
            value = original(input, linear_weight, target, *args, **kwargs)
        finally:
            self.inside -= 1
        if self.hears():
            self.listen(self.called_linear, linear_weight, target, value, kwargs)
        return value

    def called_linear(self, weight, target, value, kwargs):
        scores = weight.transpose(0, 1)  # as wide as they
        self.lost(losses.of_call(scores, target, value, kwargs), value)

    def function(self, original, kind, *args, **kwargs):
        """Somebody's autograd.Function: a loss if it is given scores and targets (losses.py)."""
        seen = self.current or self.last
        before = len(seen.losses) if seen else 0
        value = original(kind, *args, **kwargs)
        if seen and self.hears() and len(seen.losses) == before:
            self.listen(self.applied, args, value)
        return value

    def applied(self, args, value):
        found = losses.of_function(args, value)
        if found is not None:
            self.lost(found, value[0] if isinstance(value, tuple) else value)

    def hears(self):
        return (self.current or self.last) is not None and not self.inside and not self.deaf()

    def lost(self, loss, value):
        """Keep a loss with the pass that it was taken of."""
        seen = self.current or self.last
        seen.losses.append(loss)
        self.heard |= value.requires_grad
        each = value.requires_grad and loss.reduction == "none" and not self.rarely()
        if each and not loss.targets.is_floating_point():  # what counts shows in its gradient
            weigh = functools.partial(self.listen, self.weigh, seen, loss)
            value.register_hook(unserializable_hook(weigh))  # who saves the loss is not warned
        self.tell("lost", seen)

    def weigh(self, seen, loss, gradient):
        if not transformed():
            loss.weigh(gradient)
            seen.rows = None  # made anew

    def rarely(self):
        return self.doctor.updates > EVERY and self.doctor.updates % 10 > 0

    def fed(self, original, input, target, options):
        """What a loss function is given, the first times."""
        kind = original.__name__
        if input.requires_grad and self.fed_to[kind] < COUNTED:
            self.fed_to[kind] += 1
            if self.fed_to[kind] <= FED:
                maker = losses.name_of(losses.below(input.grad_fn)) if input.grad_fn else ""
                self.tell("fed", kind, input.detach(), maker)
            self.tell("loss_targets", kind, input.detach(), target.detach(), options)

    def other_loss(self, original, *args, **kwargs):
        if self.fed_to[original.__name__] < COUNTED and not self.deaf():
            self.listen(self.feed, original, args, kwargs)
        return original(*args, **kwargs)

    def feed(self, original, args, kwargs):
        with suppress(TypeError):  # not the arguments that it takes: it says so itself
            options = inspect.signature(original).bind(*args, **kwargs).arguments
            scores, targets, *_ = options.values()
            if isinstance(scores, torch.Tensor) and isinstance(targets, torch.Tensor):
                self.fed(original, scores, targets, options)

    def regression(self, original, input, target, *args, **kwargs):
        value = original(input, target, *args, **kwargs)
        if self.doctor.updates % 10 == 0 and self.hears() and isinstance(value, torch.Tensor):
            if value.requires_grad and value.ndim == 0 and not target.requires_grad:
                self.tell("regressed", input.detach(), target.detach(), value.detach())
        return value

    def scripted(self, original, obj, *args, _frames_up=0, **kwargs):
        """TorchScript reads the source of what it compiles: it is shown the original functions."""
        if getattr(getattr(obj, "__code__", None), "co_filename", "") == UNSEEN:
            obj, kwargs["_rcb"] = inspect.unwrap(obj), None  # it has a name of the program's own
        names = [(F, name) for name in (*LOSSES, *OTHER_LOSSES, *REGRESSIONS) if hasattr(F, name)]
        wrapped = {place: getattr(*place) for place in [*names, (torch, "manual_seed")]}
        for place, function in wrapped.items():
            setattr(*place, inspect.unwrap(function))
        try:
            return original(obj, *args, _frames_up=_frames_up + 2, **kwargs)
        finally:
            for place, function in wrapped.items():
                setattr(*place, function)

    def packs(self, original, *args, **kwargs):
        self.packed = True
        return original(*args, **kwargs)

    # --- the update ---

    def backward(self, original, tensor, *args, **kwargs):
        gradient = args[0] if args else kwargs.get("gradient")
        found = self.listen(self.starts, tensor, gradient) or []
        self.fresh, self.used = False, True
        self.quiet += 1  # recomputed activations are no forward passes
        try:
            return original(tensor, *args, **kwargs)
        finally:
            self.quiet -= 1
            self.listen(self.weigh_found, found)
            self.tell("gradients_came")

    def starts(self, tensor, gradient):
        if type(gradient) is torch.Tensor and tensor.numel() == 1 and not self.deaf():
            if losses.same(tensor, gradient):
                self.tell("times_itself")
        if self.doctor.updates < 12 and tensor.grad_fn:
            self.tell("traced", tensor.grad_fn)
        self.tell("backward", tensor.detach(), self.fresh)
        return self.search(tensor)

    def search(self, tensor):
        """Look for a loss that no function told of; return (Pass, Loss, its gradient, handle)s."""
        if self.heard or self.packed or self.in_vain >= IN_VAIN or self.rarely():
            return []
        if self.deaf() or tensor.grad_fn is None or self.last is None:
            return []
        self.in_vain += 1
        try:
            found = list(losses.in_graph(tensor))
        except (AttributeError, RuntimeError):  # gone already, or another version of torch
            return []
        listening = []
        for node, loss in found[:8]:
            self.in_vain, weights = 0, []
            handle = node.register_prehook(weights.extend)
            listening.append((self.last, loss, weights, handle))
        return listening

    def weigh_found(self, found):
        for *_, handle in found:
            handle.remove()
        came = [(seen, loss, grad[0]) for seen, loss, grad, _ in found if grad]
        came = [each for each in came if each[2] is not None]
        single = [abs(float(grad)) for _, loss, grad in came if loss.targets.numel() == 1]
        single += [1.0] * (len(single) == 1)
        rewarded = max(single, default=0) > 1.01 * min(single, default=0)
        for seen, loss, weights in came:
            if rewarded and loss.targets.numel() == 1:
                continue  # actions one by one, each by its reward, are no labels either
            whole = loss.reduction != "none" and weights.numel() == 1
            if whole or self.doctor.safely(self.doctor, loss.weigh, (weights,)):
                seen.losses.append(loss)
                self.tell("lost", seen)
            else:
                self.tell("picked", seen, loss.targets)

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
            self.fresh, self.heard, self.depth = True, False, 0
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
        if self.doctor.updates < 40 and type(norm) is torch.Tensor:  # reading it makes a GPU wait
            self.tell("clipped", norm, max_norm)
        return norm

    # --- what surrounds it ---

    # arguments that callers may name keep the names of the original

    def load(self, original, f, *args, **kwargs):
        found = original(f, *args, **kwargs)
        self.tell("loaded", str(f), found)
        return found

    def store(self, original, obj, *args, **kwargs):
        self.tell("stored", obj)
        return original(obj, *args, **kwargs)

    def seed(self, original, seed):
        self.tell("seeded", seed)
        return original(seed)

    def take_state(self, original, module, *args, **kwargs):
        found = original(module, *args, **kwargs)
        if not args and kwargs.get("destination") is None:  # not for a part of a larger state
            self.tell("state_taken", module, found)
        return found

    def load_state(self, original, module, state_dict, *args, **kwargs):
        self.tell("state_loaded", module, state_dict)
        found = original(module, state_dict, *args, **kwargs)
        self.tell("state_matched", module, state_dict, found)
        return found

    def average(self, original, averaged, *args, **kwargs):
        self.tell("average_moved", averaged)
        return original(averaged, *args, **kwargs)

    def take_batch(self, original, iterator):
        found = original(iterator)
        self.tell("batch_taken", iterator)
        return found

    def load_optimizer(self, original, optimizer, state_dict, *args, **kwargs):
        # Accelerate calls it with an empty one, to place the tensors
        if isinstance(state_dict, dict) and state_dict.get("state"):
            self.tell("loaded_optimizer")
        return original(optimizer, state_dict, *args, **kwargs)

    def made_tokenizer(self, original, tokenizer, *args, **kwargs):
        original(tokenizer, *args, **kwargs)
        self.tell("tokenizer", tokenizer)

    def called_tokenizer(self, original, tokenizer, text=None, *args, **kwargs):
        self.tell("tokenized", tokenizer)
        found = original(tokenizer, text, *args, **kwargs)
        self.tell("encoded", tokenizer, text)
        return found

    def encode(self, original, tokenizer, text, *args, **kwargs):
        found = original(tokenizer, text, *args, **kwargs)
        self.tell("encoded", tokenizer, text)
        return found

    def generate(self, original, model, *args, **kwargs):
        """The passes of a generation are no training; what comes out is an event of its own."""
        self.quiet += 1
        try:
            found = original(model, *args, **kwargs)
        finally:
            self.quiet -= 1
        inputs = kwargs.get("input_ids", kwargs.get("inputs", args[0] if args else None))
        ids = found if isinstance(found, torch.Tensor) else getattr(found, "sequences", None)
        self.tell("generated", model, inputs, kwargs.get("attention_mask"), ids)
        return found

    def save_model(self, original, model, save_directory, *args, **kwargs):
        state = dict(kwargs.get("state_dict") or {})  # saving empties it
        found = original(model, save_directory, *args, **kwargs)
        self.tell("saved", model, str(save_directory), state)
        return found

    def save_adapter(self, original, model, save_directory, *args, **kwargs):
        found = original(model, save_directory, *args, **kwargs)
        self.tell("adapter_saved", model, str(save_directory))
        return found

    def resize(self, original, model, *args, **kwargs):
        before = model.get_input_embeddings().weight.size(0)
        found = original(model, *args, **kwargs)
        self.tell("resized", before, model.get_input_embeddings().weight.size(0))
        return found

    def train(self, original, trainer, resume_from_checkpoint=None, *args, **kwargs):
        if resume_from_checkpoint:
            self.tell("resuming", str(resume_from_checkpoint))
        return original(trainer, resume_from_checkpoint, *args, **kwargs)

    def drop_columns(self, original, trainer, dataset, *args, **kwargs):
        found = original(trainer, dataset, *args, **kwargs)
        names = [set(getattr(data, "column_names", None) or ()) for data in (dataset, found)]
        if dataset is trainer.train_dataset:
            self.tell("columns_dropped", trainer, names[0] - names[1])
        return found

    def logged(self, original, trainer, logs, *args, **kwargs):
        self.tell("logged", logs)
        return original(trainer, logs, *args, **kwargs)
