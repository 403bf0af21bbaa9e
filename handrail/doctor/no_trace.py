"""Run somebody's model once more, and leave no trace: in no weight, state or random number."""

import random
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def no_trace(model):
    """In here the model is in eval mode, without gradients; then everything it holds is as before.

    `eval()` is not called: some layers do more there than set a flag (LoRA may merge its matrices).
    What a forward pass keeps on a module (a hidden state, a count, a list) is put back. Out of
    reach: what a hook of the user's own collects.
    """
    modules = list(model.modules())
    kept = [(module, dict(vars(module)), dict(module._buffers)) for module in modules]
    held = [value for _, variables, _ in kept for value in variables.values()]
    lists = [(value, list(value)) for value in held if type(value) is list]
    named = [buffer for _, _, buffers in kept for buffer in buffers.values()]
    small = [buffer for buffer in named if buffer is not None and buffer.numel() <= 1_000_000]
    copies = [(buffer, buffer.clone()) for buffer in small]
    states = random.getstate(), np.random.get_state()
    device = next((p.device for p in model.parameters() if p.is_cuda), None)
    try:
        with torch.random.fork_rng([device] if device else []), torch.no_grad():
            for module in modules:
                module.training = False
                module._compiled_call_impl = None  # model.compile(): no graph for one look
            yield
    finally:
        for module, variables, buffers in kept:
            vars(module).clear()
            vars(module).update(variables)
            module._buffers.clear()
            module._buffers.update(buffers)
        for value, items in lists:
            value[:] = items
        for buffer, before in copies:
            if not torch.equal(buffer, before):
                buffer.copy_(before)
        random.setstate(states[0])
        np.random.set_state(states[1])
