"""Count what an update needs: the real update, the learner's own train.py, without its arithmetic.

PyTorch's FakeTensorMode lets every operation work out the shape of its result and nothing else. So
an update of a billion parameters runs in seconds on a laptop. `Ledger` is between the program and
PyTorch: it writes down what each operation allocates, when that is freed, and how much arithmetic
it takes. On real tensors it writes down the same, which is how it is checked.
"""

import gc
import time
import weakref
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

# what a tensor is there for; estimate.md says it in words
KINDS = "weights copies gradients optimizer update activations logits other".split()
SHARED = ("weights", "copies", "gradients", "optimizer", "update")  # what FSDP divides between GPUs

aten = torch.ops.aten
EXPERTS = aten._grouped_mm.default
ITEM = aten._local_scalar_dense.default
QUESTIONS = (ITEM, aten.is_nonzero.default, aten.equal.default)  # a fake tensor has no answer
CPU_ATTENTION = {  # (where q, k and v are, how much it costs: back, five products in place of two)
    aten._scaled_dot_product_flash_attention_for_cpu: (slice(0, 3), 1),
    aten._scaled_dot_product_flash_attention_for_cpu_backward: (slice(1, 4), 2.5),
}


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Ledger(TorchDispatchMode):
    """Counts the storages that are alive, byte by byte, and the floating-point operations.

    `answer` is what a fake tensor says to a yes or no question: Transformers asks whether rows are
    *not* packed.
    """

    def __init__(self, vocabulary=None, answer=True):
        super().__init__()
        self.vocabulary, self.answer = vocabulary, answer
        self.numbers = {}  # of the storages that are alive, by their id
        self.sizes, self.kinds = {}, {}  # by number
        self.events = []  # number: a storage was made; -number: it was freed
        self.operations = []  # (FLOPs, bytes read and written) of each
        self.stepping = False  # is the optimizer at work?

    def number(self, tensor):
        """Return the number of a tensor's storage, a new one at first sight."""
        storage = tensor.untyped_storage()
        key = id(storage)
        if key not in self.numbers:
            number = self.numbers[key] = len(self.sizes) + 1
            self.sizes[number], self.kinds[number] = storage.nbytes(), "other"
            self.events.append(number)
            weakref.finalize(storage, self.free, key, number)
        return self.numbers[key]

    def free(self, key, number):
        del self.numbers[key]
        self.events.append(-number)

    def label(self, things, kind):
        """Say of what kind these tensors are."""
        for tensor in things:
            self.kinds[self.number(tensor)] = kind

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        named = named or {}
        if function is torch.ops.prim.device.default:  # two of three calls: where are you?
            return function(*arguments)
        fake = bool(arguments) and isinstance(arguments[0], FakeTensor)
        if fake and function in QUESTIONS:
            number = function is ITEM and arguments[0].dtype != torch.bool
            return 1 if number else self.answer
        if fake and function is EXPERTS:
            found = one_expert_a_row(*arguments, **named)
        else:
            found = function(*arguments, **named)
        taken, given = tensors((arguments, named)), tensors(found)
        before = {self.number(tensor) for tensor in taken}
        copied = function is aten._to_copy.default and self.kinds[min(before)] == "weights"
        for tensor in given:
            if id(tensor.untyped_storage()) not in self.numbers:
                self.label([tensor], "copies" if copied else self.kind_of(tensor))
        schema = function._schema
        inside = {self.number(tensor) for tensor in given} <= before
        view = inside and schema.name.startswith("aten::") and not schema.is_mutable
        if given and not view:  # a view costs nothing
            moved = sum(tensor.numel() * tensor.element_size() for tensor in taken + given)
            self.operations.append((arithmetic(function, arguments, named, found), moved))
        return found

    def kind_of(self, tensor):
        """Return the kind of a new tensor; where gradients are recorded, backward needs it."""
        if tensor.ndim and tensor.shape[-1] == self.vocabulary and tensor.numel() > self.vocabulary:
            return "logits"
        if self.stepping:
            return "update"
        return "activations" if torch.is_grad_enabled() else "other"

    def peak(self, without=()):
        """Return (bytes at the highest point, {kind: bytes} there), all without some kinds."""
        now = dict.fromkeys(KINDS, 0)
        level, most, there = 0, 0, dict(now)
        for event in self.events:
            size, kind = self.sizes[abs(event)], self.kinds[abs(event)]
            if kind in without:
                continue
            change = size if event > 0 else -size
            now[kind] += change
            level += change
            if level > most:
                most, there = level, dict(now)
        return most, there


def one_expert_a_row(rows, weight, offs, **_):
    """Return the product in which each of S rows meets one of E experts.

    (S, K) with (E, K, N); backward, (K, S) with (S, N). PyTorch's own answer on fake tensors knows
    16 bits only.
    """
    if weight.ndim == 3:
        return rows.new_empty((rows.shape[0], weight.shape[-1]))
    return rows.new_empty((offs.numel(), rows.shape[0], weight.shape[-1]))


def arithmetic(function, arguments, named, found):
    """Return the FLOPs of a call: PyTorch's formulas, and those of experts and CPU attention."""
    packet = function._overloadpacket
    if function is EXPERTS:
        return 2 * arguments[0].numel() * arguments[1].shape[-1]
    if packet in flop_registry:
        return flop_registry[packet](*arguments, **named, out_val=found)
    if packet in CPU_ATTENTION:
        where, times = CPU_ATTENTION[packet]
        return sdpa_flop_count(*(part.shape for part in arguments[where])) * times
    return 0


# --- all tensors become fake ones ---


def moved(module, change, recurse=True):
    """In place of Module._apply: fake tensors refuse to be moved, so they are replaced.

    A module that stays as it is, is left alone; a tensor that two modules share stays shared.
    """
    old = [*module.parameters(), *module.buffers()]
    new = {id(tensor): change(tensor) for tensor in old}
    form = [(new[id(t)].dtype, new[id(t)].device) for t in old]
    if form == [(t.dtype, t.device) for t in old]:
        return module
    for part in module.modules():
        for name, weight in part._parameters.items():
            if weight is not None:
                made = new[id(weight)]
                if not isinstance(made, torch.nn.Parameter):
                    made = torch.nn.Parameter(made.detach(), weight.requires_grad)
                new[id(weight)] = part._parameters[name] = made
        for name, buffer in part._buffers.items():
            if buffer is not None:
                part._buffers[name] = new[id(buffer)]
    return module


@contextmanager
def pretending(gpu, bf16=True):
    """Make all tensors fake; with `gpu` they take a CUDA card's ways through PyTorch."""
    changes = [
        patch.object(torch.nn.Module, "_apply", moved),
        # else masks are built that a real run does not need
        patch("transformers.masking_utils.is_tracing", lambda *_: False),
    ]
    if gpu:
        attention = torch.nn.functional.scaled_dot_product_attention
        changes += [
            # a card's kernel drops parts of attention without ever holding it; the CPU's would
            patch(
                "torch.nn.functional.scaled_dot_product_attention",
                lambda *a, **how: attention(*a, **how | {"dropout_p": 0.0}),
            ),
            patch.object(FakeTensor, "is_cuda", True),
            patch("torch.cuda.is_bf16_supported", lambda **_: bf16),
            patch("torch.optim.adam._default_to_fused_or_foreach", lambda *_, **__: (False, True)),
        ]
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        for change in changes:
            stack.enter_context(change)
        yield


# --- one update ---


@dataclass
class Update:
    """What an update of a program needs."""

    peak: int  # bytes at the highest point
    kinds: dict  # the same, by kind
    passing: int  # bytes at the peak of what FSDP does not divide
    working: int  # bytes at the peak of what the optimizer works with
    operations: list  # (FLOPs, bytes read and written) of each
    tokens: int
    parameters: int
    trained: int
    seconds: float  # that the count took

    @property
    def flops(self):
        return sum(flops for flops, _ in self.operations)


def one_of_each(batch):
    """Return (parts, how many each represents): between first and last, one of each shape."""
    kept, times = {}, Counter()
    for i, part in enumerate(batch):
        edge = i in (0, len(batch) - 1)
        shape = i if edge else tuple(tensor.shape for tensor in tensors(part))
        kept.setdefault(shape, part)
        times[shape] += 1
    return list(kept.values()), [times[shape] for shape in kept]


def count_update(accelerator, train, make, batch, loss, ledger):
    """Return the Update that the learner's train.py makes with the (model, optimizer) of make().

    The first update makes the optimizer's averages; the second has them in memory with everything
    else. Parts of one shape cost the same, so one of them is run.
    """
    began, starts = time.perf_counter(), []
    few, times = one_of_each(batch)

    def marked(model, part):
        starts.append(len(ledger.operations))
        return loss(model, part)

    with ledger:
        model, optimizer = make()
        watch(ledger, model, optimizer)
        model, optimizer = accelerator.prepare(model, optimizer)
        for parts in (few[:1], few, batch):
            if parts is batch and len(starts) == len(few):
                break  # else it is an update of the learner's own, which wants all of them at once
            ledger.operations.clear()
            starts.clear()
            gc.collect()  # what only a circle of references holds would go at any time
            train.update(accelerator, model, parts, marked, optimizer, 1.0)
            ledger.label(tensors(list(optimizer.state.values())), "optimizer")
        else:
            starts, times = [0], [1]
    edges = [0, *starts[1:], len(ledger.operations)]
    operations = []
    for (start, end), n in zip(pairwise(edges), times, strict=True):
        operations += ledger.operations[start:end] * n
    parameters = list(accelerator.unwrap_model(model).parameters())
    peak, kinds = ledger.peak()
    return Update(
        peak,
        kinds,
        passing=ledger.peak(SHARED)[0],
        working=ledger.peak([kind for kind in KINDS if kind != "update"])[0],
        operations=operations,
        tokens=sum(part["inputs"].numel() for part in batch),
        parameters=sum(weight.numel() for weight in parameters),
        trained=sum(weight.numel() for weight in parameters if weight.requires_grad),
        seconds=time.perf_counter() - began,
    )


def watch(ledger, model, optimizer):
    """Let the ledger know what is a weight, what a gradient, and when the optimizer is at work."""
    model.train()
    ledger.label([*model.parameters(), *model.buffers()], "weights")
    for weight in model.parameters():
        if weight.requires_grad:
            weight.register_post_accumulate_grad_hook(
                lambda weight: ledger.label([weight.grad], "gradients")
            )
    optimizer.register_step_pre_hook(lambda *_: setattr(ledger, "stepping", True))
    optimizer.register_step_post_hook(lambda *_: setattr(ledger, "stepping", False))
