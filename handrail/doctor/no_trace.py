"""Run somebody's model once more, and leave no trace: in no weight, state or random number."""

import random
import signal
import sys
import threading
import traceback
from collections import Counter, OrderedDict, defaultdict, deque
from contextlib import contextmanager, nullcontext, redirect_stderr, redirect_stdout
from logging import Handler

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

LARGE = 10_000  # items
DICTS = (dict, OrderedDict, defaultdict, Counter)


@contextmanager
def no_trace(model, inputs=None):
    """In here the model is in eval mode, without gradients; then everything it holds is as before.

    `eval()` is not called: some layers do more there than set a flag (LoRA may merge its matrices).
    What a forward pass keeps on a module (a hidden state, a count, a list) is put back, what it
    prints is not printed again, and what could not be undone is refused with a RuntimeError. Out of
    reach: what it does elsewhere, as a hook of the user's own that collects.
    """
    modules, put_back = list(model.modules()), {}
    for module in modules:
        remember(vars(module), put_back)
    remember(inputs, put_back)
    states = random.getstate(), np.random.get_state()
    cached = torch.is_autocast_cache_enabled()
    device = next((p.device for p in model.parameters() if p.is_cuda), None)
    try:
        with torch.random.fork_rng([device] if device else []), torch.no_grad():
            torch.set_autocast_cache_enabled(False)  # it would keep weights without gradients
            for module in modules:
                module.training = False
                module._compiled_call_impl = None  # model.compile(): no graph for one look
            with silence(), not_compiled(), torch._C._EnableTorchFunction(), Undoable():
                yield
    finally:
        torch.set_autocast_cache_enabled(cached)
        for put in put_back.values():
            put()
        random.setstate(states[0])
        np.random.set_state(states[1])


def not_compiled():
    """Return a context in which nothing is compiled anew for one look."""
    used = "torch._dynamo" in sys.modules and hasattr(torch.compiler, "set_stance")
    return torch.compiler.set_stance("force_eager") if used else nullcontext()


def from_signal(error):
    """Return True if a signal's handler raised an error, to end the program or a part of it."""
    handlers = map(signal.getsignal, signal.valid_signals())
    codes = {getattr(handler, "__code__", None) for handler in handlers}
    return any(frame.f_code in codes for frame, _ in traceback.walk_tb(error.__traceback__))


def remember(value, put_back):
    """Add to {id: function} what puts the contents of a list, a dict, ... back, with all in it.

    What is larger holds data: a state is small.
    """
    if id(value) in put_back:
        return
    if type(value) in (list, deque, set) and len(value) <= LARGE:
        kept = list(value)
        add = value.update if type(value) is set else value.extend
        put_back[id(value)] = lambda: same(value, kept) or (value.clear(), add(kept))
        for item in kept:
            remember(item, put_back)
    elif type(value) in DICTS and len(value) <= LARGE:
        kept = dict(value)
        put_back[id(value)] = lambda: restore(value, kept)
        for item in kept.values():
            remember(item, put_back)
    elif isinstance(value, np.ndarray) and value.flags.writeable and value.size <= LARGE:
        kept = value.copy()
        put_back[id(value)] = lambda: value.__setitem__(..., kept)
    elif isinstance(value, random.Random):
        kept = value.getstate()
        put_back[id(value)] = lambda: value.setstate(kept)
    elif isinstance(value, np.random.Generator):
        kept = value.bit_generator.state
        put_back[id(value)] = lambda: setattr(value.bit_generator, "state", kept)


def same(value, kept):
    return len(value) == len(kept) and all(a is b for a, b in zip(value, kept, strict=True))


def restore(value, kept):
    """Make a dict what it was; other threads that read it never find it empty."""
    for name in value.keys() - kept.keys():
        del value[name]
    for name, item in kept.items():
        value[name] = item


@contextmanager
def silence():
    """Drop what this thread prints and logs."""
    files, handle, me = (
        (Muted(sys.stdout), Muted(sys.stderr)),
        Handler.handle,
        threading.get_ident(),
    )
    Handler.handle = lambda handler, record: record.thread != me and handle(handler, record)
    try:
        with redirect_stdout(files[0]), redirect_stderr(files[1]):
            yield
    finally:
        Handler.handle = handle
        for file in files:
            file.thread = None  # another thread may have kept it


class Muted:
    """A file that drops what one thread prints."""

    def __init__(self, file):
        self.file, self.thread = file, threading.get_ident()

    def write(self, text):
        return len(text) if threading.get_ident() == self.thread else self.file.write(text)

    def __getattr__(self, name):
        return getattr(self.file, name)


class Undoable(TorchDispatchMode):
    """Refuses what stays: a write to a tensor that was there before, a number drawn from a
    generator of the program's own, a word to other processes (that may not be listening)."""

    def __init__(self):
        super().__init__()
        self.made = set()

    def __torch_dispatch__(self, op, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        names = [argument.name for argument in op._schema.arguments]
        given = dict(zip(names, args, strict=False)) | kwargs
        if "c10d" in op.namespace or given.get("generator") is not None:
            raise RuntimeError(f"{op} cannot be undone")
        written = [a.name for a in op._schema.arguments if a.alias_info and a.alias_info.is_write]
        if given.get("training") and "running_mean" in names:  # writes, and does not say so
            written.append("running_mean")
        fresh = "lift_fresh" in op.name()  # of torch.tensor(...)
        before = set() if fresh else storages([args, kwargs])
        if storages([given.get(name) for name in written]) - self.made:
            raise RuntimeError(f"{op} writes to a tensor that was there before")
        result = op(*args, **kwargs)
        self.made |= storages(result) - (before - self.made)
        return result


def storages(values):
    """Return a number for the memory of each tensor in nested values."""
    tensors = [value for value in tree_leaves(values) if isinstance(value, torch.Tensor)]
    return {t.untyped_storage()._cdata for t in tensors if t.layout is torch.strided}
