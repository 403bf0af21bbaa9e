"""The training loop, all of it, for everything you will train here.

A model is millions of numbers, its *weights*. Training changes them, batch by
batch (a batch is a few rows of text):

Forward: the model predicts every next token of the batch. The *loss* measures
how surprised it was by the tokens that really came next: the average of -ln P,
where P is the probability it gave to the right one (0: no surprise at all).
Backward: the *gradient* says, for each weight, which way lowers the loss.
Step: the optimizer moves every weight a little that way. Then the next batch.

`update` does this once; `fit` repeats it, and saves on the way.

The trap: checking too often. The GPU works through a queue of orders. To read a
loss, the program waits until that queue is empty, and then the GPU has nothing
to do. So `update` never reads one; log.py reads ten of them together.
"""

import time
from contextlib import nullcontext

import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device


def next_token_loss(model, batch):
    """Return the sum of -ln P(target) over the batch, in nats; padding (IGNORE) does not count."""
    logits = model(batch["inputs"], use_cache=False).logits.flatten(0, 1)  # (B · T, V)
    return F.cross_entropy(logits.float(), batch["targets"].flatten(), reduction="sum")


def update(accelerator, model, batch, loss, optimizer, clip=1.0):
    """Change the weights once; return [loss, gradient norm], which are still on the GPU.

    A batch is a list of parts that fit into memory. Their losses are summed, then divided by the
    number of all targets: an average of averages would count the targets of short parts too much.
    """
    targets = sum_over_processes(accelerator, sum(part["count"] for part in batch))
    total = 0.0
    for part in batch:
        with share_gradients(accelerator, model, last=part is batch[-1]):
            part = send_to_device(part, accelerator.device, non_blocking=True)
            part_loss = loss(model, part) / targets  # forward
            accelerator.backward(part_loss * accelerator.num_processes)  # backward
        total += part_loss.detach()
    norm = accelerator.clip_grad_norm_(model.parameters(), clip)  # a strange batch counts for less
    optimizer.step()
    optimizer.zero_grad()  # or the next update would add to these gradients
    return torch.stack([sum_over_processes(accelerator, total), full_norm(norm)])


def fit(accelerator, model, optimizer, settings, data, batches, loss, evaluate):
    """Train to settings.updates, continuing from the newest checkpoint of this run.

    batches(step) returns the batch of an update, evaluate(step) the loss on val; `data` is the
    training file. Raises KeyboardInterrupt, once everything is saved, if somebody asks to stop.
    """
    from checkpoint import requests_to_stop, resume, save  # these files come later in the walk
    from identity import claim, identity
    from log import Log
    from optimizer import make_schedule

    folder, run = settings.out / settings.step, identity(settings, data)
    claim(accelerator, folder)
    first = resume(accelerator, folder / "checkpoints", run)
    log = Log(accelerator, folder / "metrics.jsonl", first, settings.updates)
    schedule = make_schedule(settings.lr, settings.updates)
    every = settings.every or max(1, settings.updates // 10)
    for step in range(first, settings.updates):
        began, lr, batch = time.perf_counter(), schedule(step), batches(step)
        model.train()  # evaluating switches to another mode
        for group in optimizer.param_groups:
            group["lr"] = lr
        numbers = update(accelerator, model, batch, loss, optimizer)
        if step == first:  # before, there was nothing to save: Ctrl-C ended everything at once
            requests = requests_to_stop()
        time_to_write = log.add(step + 1, numbers, batch, lr, began)

        last = step + 1 == settings.updates
        stop = must_stop(accelerator, requests, step) and not last
        time_to_save = stop or last or (step + 1) % every == 0
        if time_to_write or time_to_save:
            log.write(evaluate if time_to_save and not stop else None)
        if time_to_save:
            save(accelerator, folder / "checkpoints", step + 1, run)
        if stop:
            raise KeyboardInterrupt


@torch.no_grad()
def mean_loss(accelerator, model, batches, loss):
    """Return the mean loss over all targets of all batches, without training on them."""
    model.eval()
    total, targets = 0.0, 0
    for batch in batches:
        total += loss(accelerator.unwrap_model(model), send_to_device(batch, accelerator.device))
        targets += batch["count"]
    return total.item() / targets


# --- Several GPUs: each runs this program as a process of its own, on its share of every batch.


def sum_over_processes(accelerator, number):
    """Return the sum of a number over all processes, without waiting for the GPU."""
    number = torch.zeros((), device=accelerator.device) + number
    return accelerator.reduce(number, "sum")


def share_gradients(accelerator, model, last):
    """Return a `with` block: backward averages the gradients over all processes only if `last`.

    Averaging takes time, so it happens once per batch, in its last part. `update` wants the sum
    and not the average, so it multiplies by the number of processes.
    """
    return nullcontext() if last else accelerator.no_sync(model)


def full_norm(norm):
    """Return the gradient norm. With FSDP, each process holds a part of every weight: add them."""
    return norm.full_tensor() if hasattr(norm, "full_tensor") else norm


def must_stop(accelerator, requests, step):
    """Return True if any process was asked to stop; processes tell each other every ten updates."""
    if accelerator.num_processes == 1:
        return bool(requests)
    return (step + 1) % 10 == 0 and sum_over_processes(accelerator, len(requests)).item() > 0
