"""The rehearsal without a GPU: the real update, the learner's own train.py, on tensors that have a shape and no numbers.

PyTorch's FakeTensorMode lets every operation work out the shape of its result and nothing else. So an update of a
billion parameters runs in seconds on a laptop. `Ledger` sits between the program and PyTorch: it writes down what each
operation allocates, when that is freed, and how many operations of arithmetic it costs. On real tensors it keeps the same
books, which is how it is checked.
"""

import gc
import time
import weakref
from collections import Counter
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from unittest.mock import patch

import torch
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry, sdpa_flop_count

KINDS = {  # what a tensor is there for
    "weights": "the model",
    "copies": "a second copy of the weights in 16 bits, to calculate with",
    "gradients": "one number per weight that is trained",
    "optimizer": "its averages, kept from one update to the next",
    "update": "what the optimizer needs while it moves the weights",
    "activations": "what the backward pass will need from the forward pass",
    "logits": "one score per token of the vocabulary, at every position",
    "other": "batches and intermediate results",
}
SHARED = ("weights", "copies", "gradients", "optimizer", "update")  # what FSDP divides between GPUs
aten = torch.ops.aten
grouped = aten._grouped_mm.default


def tensors(tree):
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


class Ledger(TorchDispatchMode):
    """Counts the storages that live, byte by byte, and the floating-point operations.

    `answer` is what a fake tensor says when the program asks it for a truth: Transformers asks whether rows are *not* packed.
    """

    def __init__(self, vocabulary=None, answer=True):
        super().__init__()
        self.vocabulary, self.answer = vocabulary, answer
        self.known, self.events, self.kinds = (
            {},
            [],
            {},
        )  # id(storage) -> number; +number, -number; number -> (bytes, kind)
        self.operations, self.stepping = (
            [],
            False,
        )  # (FLOPs, bytes read and written) of each operation; is the optimizer at work?

    def number(self, storage):
        """Return the number of a storage, a new one at first sight."""
        if id(storage) not in self.known:
            number = self.known[id(storage)] = len(self.kinds) + 1
            self.kinds[number] = (storage.nbytes(), "other")
            self.events.append(number)
            weakref.finalize(storage, self.free, id(storage), number)
        return self.known[id(storage)]

    def free(self, key, number):
        del self.known[key]
        self.events.append(-number)

    def call(self, things, kind):
        """Say of what kind these tensors are."""
        for tensor in things:
            number = self.number(tensor.untyped_storage())
            self.kinds[number] = (self.kinds[number][0], kind)

    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        named = named or {}
        if function is torch.ops.prim.device.default:  # two of three calls: where are you?
            return function(*arguments)
        if function in (
            aten._local_scalar_dense.default,
            aten.is_nonzero.default,
            aten.equal.default,
        ) and isinstance(arguments[0], FakeTensor):
            return (
                self.answer
                if arguments[0].dtype == torch.bool
                or function is not aten._local_scalar_dense.default
                else 1
            )
        experts = function is grouped and isinstance(
            arguments[0], FakeTensor
        )  # PyTorch's own answer on fake tensors knows 16 bits only
        found = (
            arguments[0].new_empty(one_expert_a_row(*arguments, **named))
            if experts
            else function(*arguments, **named)
        )
        came, made = tensors((arguments, named)), tensors(found)
        before = {self.number(tensor.untyped_storage()) for tensor in came}
        copied = function is aten._to_copy.default and self.kinds[min(before)][1] == "weights"
        for tensor in made:
            if id(tensor.untyped_storage()) not in self.known:
                self.call([tensor], "copies" if copied else self.kind_of(tensor))
        alias = (
            function._schema.name.startswith("aten::")
            and {self.known[id(t.untyped_storage())] for t in made} <= before
        )
        if made and not (alias and not function._schema.is_mutable):  # a view costs nothing
            flops = arithmetic(function, arguments, named, found)
            self.operations.append((flops, sum(t.numel() * t.element_size() for t in came + made)))
        return found

    def kind_of(self, tensor):
        """Return the kind of a tensor just made: what is made while gradients are recorded waits for the way back."""
        if tensor.ndim and tensor.shape[-1] == self.vocabulary and tensor.numel() > self.vocabulary:
            return "logits"
        return "update" if self.stepping else "activations" if torch.is_grad_enabled() else "other"

    def peak(self, without=()):
        """Return (bytes at the highest point, {kind: bytes} there), not counting the kinds `without`."""
        level = most = place = 0
        for i, number in enumerate(self.events):
            size, kind = self.kinds[abs(number)]
            level += 0 if kind in without else size if number > 0 else -size
            if level > most:
                most, place = level, i
        alive = Counter()
        for number in self.events[: place + 1]:
            alive[abs(number)] += 1 if number > 0 else -1
        kinds = Counter(dict.fromkeys(KINDS, 0))
        for number in (n for n, there in alive.items() if there):
            kinds[self.kinds[number][1]] += self.kinds[number][0]
        return most, dict(kinds)


def one_expert_a_row(rows, weight, offs, **_):
    """Return the shape of a product in which each of S rows meets one of E experts: (S, K) with (E, K, N); on the way back (K, S) with (S, N)."""
    return (
        (rows.shape[0], weight.shape[-1])
        if weight.ndim == 3
        else (offs.numel(), rows.shape[0], weight.shape[-1])
    )


def arithmetic(function, arguments, named, found):
    """Return the floating-point operations of one call: PyTorch's own formulas, and those it lacks, of experts and of attention on the CPU."""
    packet = function._overloadpacket
    if function is grouped:
        return 2 * arguments[0].numel() * arguments[1].shape[-1]
    if packet in flop_registry:
        return flop_registry[packet](*arguments, **named, out_val=found)
    if packet in (
        aten._scaled_dot_product_flash_attention_for_cpu,
        aten._scaled_dot_product_flash_attention_for_cpu_backward,
    ):
        q, k, v = (
            arguments[:3]
            if packet is aten._scaled_dot_product_flash_attention_for_cpu
            else arguments[1:4]
        )
        way_back = packet is aten._scaled_dot_product_flash_attention_for_cpu_backward
        return sdpa_flop_count(q.shape, k.shape, v.shape) * (
            2.5 if way_back else 1
        )  # five products where there were two
    return 0


def stays(module, apply, recurse=True):
    """Return the module if `apply` would change neither device nor format of any tensor of it; fake tensors refuse to be moved."""
    for tensor in [*module.parameters(), *module.buffers()]:
        other = apply(tensor)
        if (other.dtype, other.device) != (tensor.dtype, tensor.device):
            return None
    return module


def converted(module, apply):
    """Return the module with new tensors, made by `apply`, in place of its own; a tensor that two modules share stays shared."""
    new = {id(tensor): apply(tensor) for tensor in [*module.parameters(), *module.buffers()]}
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
def pretending(gpu):
    """Make all tensors fake ones; with `gpu` they take the ways through PyTorch and the program that a CUDA card would."""
    changes = [
        patch.object(
            torch.nn.Module,
            "_apply",
            lambda module, apply, recurse=True: stays(module, apply) or converted(module, apply),
        ),
        patch(
            "transformers.masking_utils.is_tracing", lambda *_: False
        ),  # else masks are built that a real run does not need
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
            patch("torch.cuda.is_bf16_supported", lambda **_: True),
            patch("torch.optim.adam._default_to_fused_or_foreach", lambda *_, **__: (False, True)),
        ]
    with ExitStack() as stack:
        stack.enter_context(FakeTensorMode(allow_non_fake_inputs=True))
        for change in changes:
            stack.enter_context(change)
        yield


@dataclass
class Update:
    """What an update of a program needs: bytes at the peak, by kind; the operations of one update; parameters."""

    peak: int
    kinds: dict
    passing: int  # bytes at the peak of what FSDP does not divide
    working: int  # bytes at the peak of what the optimizer works with
    operations: list  # (FLOPs, bytes) of each
    tokens: int
    parameters: int
    trained: int
    seconds: float = 0.0  # that the rehearsal took

    @property
    def flops(self):
        return sum(flops for flops, _ in self.operations)


def once_each(batches):
    """Return (batches, how many each represents): of those between the first and the last, one of each shape. The others cost the same."""
    kept, times = {}, Counter()
    for i, batch in enumerate(batches):
        shape = (
            i if i in (0, len(batches) - 1) else tuple(tensor.shape for tensor in tensors(batch))
        )
        kept.setdefault(shape, batch)
        times[shape] += 1
    return list(kept.values()), [times[shape] for shape in kept]


def keep_books(accelerator, train, make, batches, loss, ledger):
    """Return the Update that the learner's train.py makes with a (model, optimizer) of make().

    The first update makes the optimizer's averages, the second has them in memory with everything else.
    """
    began, starts = time.perf_counter(), []
    few, times = once_each(batches)

    def marked(model, batch):
        starts.append(len(ledger.operations))
        return loss(model, batch)

    with ledger:
        model, optimizer = make()
        model.train()
        ledger.call([*model.parameters(), *model.buffers()], "weights")
        for p in model.parameters():
            if p.requires_grad:
                p.register_post_accumulate_grad_hook(lambda p: ledger.call([p.grad], "gradients"))
        optimizer.register_step_pre_hook(lambda *_: setattr(ledger, "stepping", True))
        optimizer.register_step_post_hook(lambda *_: setattr(ledger, "stepping", False))
        model, optimizer = accelerator.prepare(model, optimizer)
        for share in (few[:1], few, batches):
            ledger.operations.clear()
            starts.clear()
            gc.collect()  # what only a circle of references holds would go at some time or other
            train.update(accelerator, model, share, marked, optimizer, 1.0)
            ledger.call(tensors(list(optimizer.state.values())), "optimizer")
            if (
                share is few and len(starts) == len(few)
            ):  # else an update of the learner's own, which does not take them one by one: all of them
                break
        else:
            starts, times = [0], [1]
    edges = [0, *starts[1:], len(ledger.operations)]
    operations = [
        each
        for start, end, n in zip(edges, edges[1:], times)
        for each in ledger.operations[start:end] * n
    ]
    peak, kinds = ledger.peak()
    plain = accelerator.unwrap_model(model)
    count = [
        sum(p.numel() for p in plain.parameters() if p.requires_grad or all_)
        for all_ in (True, False)
    ]
    read = sum(batch["inputs"].numel() for batch in batches)
    return Update(
        peak,
        kinds,
        ledger.peak(SHARED)[0],
        ledger.peak([kind for kind in KINDS if kind != "update"])[0],
        operations,
        read,
        *count,
        time.perf_counter() - began,
    )
