"""Run somebody's model once more, and leave no trace: not in its weights, not in its state, not in any random number."""

import random
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def no_trace(model):
    """In here the model is in eval mode, without gradients; afterwards everything it holds is as it was.

    `eval()` is not called: some layers do more there than to set a flag (LoRA may merge its matrices). What a forward pass
    keeps on a module (a hidden state, a count, a list) is put back. Out of reach: what a hook of the user's own collects.
    """
    modules = list(model.modules())
    kept = [(module, dict(vars(module)), dict(module._buffers)) for module in modules]
    lists = [
        (value, list(value))
        for _, held, _ in kept
        for value in held.values()
        if type(value) is list
    ]
    buffers = [
        (buffer, buffer.clone())
        for _, _, held in kept
        for buffer in held.values()
        if buffer is not None and buffer.numel() <= 1_000_000
    ]
    chance = random.getstate(), np.random.get_state()
    device = next((p.device for p in model.parameters() if p.is_cuda), None)
    try:
        with torch.random.fork_rng([device] if device else []), torch.no_grad():
            for module in modules:
                module.training = False
            yield
    finally:
        for module, held, named in kept:
            vars(module).clear()
            vars(module).update(held)
            module._buffers.clear()
            module._buffers.update(named)
        for value, items in lists:
            value[:] = items
        for buffer, before in buffers:
            if not torch.equal(buffer, before):
                buffer.copy_(before)
        random.setstate(chance[0])
        np.random.set_state(chance[1])
