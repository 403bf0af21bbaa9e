"""The training loop: the whole of it, for everything you will train here.

Forward: the model predicts every next token of a batch. The *loss* is how
surprised it was by the true ones: the mean of -ln P, in nats (0 = never).
Backward: the *gradient* tells for each weight which way lowers the loss.
Step: the optimizer moves every weight a little that way. Then again.

The trap: looking. To print a loss the program waits for the GPU, which then
stands idle. So `update` never looks; `train` does, every few updates.
"""

import math
import time
from contextlib import nullcontext
from itertools import zip_longest

import torch
import torch.nn.functional as F
from accelerate.utils import send_to_device


def next_token_loss(model, batch):
    """Return the sum over all targets of -ln P(target), in nats; targets to IGNORE add nothing."""
    logits = model(batch["inputs"], use_cache=False).logits  # (B, T, V)
    return F.cross_entropy(logits.flatten(0, 1).float(), batch["targets"].flatten(), reduction="sum")


def update(accelerator, model, batches, loss, optimizer, clip):
    """Change the weights once; return [loss, gradient norm], still on the device.

    Losses are summed, then divided by the number of targets in all batches of all processes: the mean of the
    batches' means would let the short rows count too much.
    """
    count = torch.full((), float(sum(batch["count"] for batch in batches)), device=accelerator.device)
    count = accelerator.reduce(count, "sum")
    total = 0.0
    for i, batch in enumerate(batches):
        with nullcontext() if i == len(batches) - 1 else accelerator.no_sync(model):
            part = loss(model, send_to_device(batch, accelerator.device, non_blocking=True)) / count
            accelerator.backward(part * accelerator.num_processes)  # processes average their gradients: undo it
        total += part.detach()
    norm = accelerator.clip_grad_norm_(model.parameters(), clip)  # one odd batch must not throw the weights far off
    norm = norm.full_tensor() if hasattr(norm, "full_tensor") else norm  # FSDP: each process holds a part of everything
    optimizer.step()
    optimizer.zero_grad()
    return torch.stack([accelerator.reduce(total, "sum"), norm])


@torch.no_grad()
def mean_loss(accelerator, model, batches, loss):
    """Return the mean loss over all targets of all batches; the processes share the work."""
    model.eval()
    sums = torch.zeros(2, device=accelerator.device)  # loss, targets
    for share in zip_longest(*[iter(batches)] * accelerator.num_processes):
        mine = share[accelerator.process_index]
        batch = mine or share[0]  # where there is none left, another's, uncounted: with FSDP nobody may be missing
        total = loss(accelerator.unwrap_model(model), send_to_device(batch, accelerator.device))
        sums += (mine is not None) * torch.stack([total, torch.tensor(float(batch["count"]), device=accelerator.device)])
    model.train()
    total, count = accelerator.reduce(sums, "sum").tolist()
    return total / count


def train(accelerator, model, batches, loss, optimizer, schedule, updates, *,
          first=0, clip=1.0, compiled=False, every=None, evaluate=None, save=None, log=None, asked=()):  # fmt: skip
    """Run the updates from `first` up to `updates`; return their losses.

    batches(step) gives this process's batches for one update, schedule(step) the learning rate. Every `every`
    updates evaluate(step) gives the loss on val and save(step) writes a checkpoint; log(...) gets the numbers.
    Raises FloatingPointError when a loss is no longer a number, and KeyboardInterrupt, once all is saved, when
    somebody asked to stop: when the list `asked` is no longer empty.
    """
    model.train()  # a pretrained model arrives in eval mode
    loss = torch.compile(loss) if compiled else loss
    patience = 1 if accelerator.device.type == "cpu" else 10  # updates between two looks
    losses, unseen, tokens, clock = [], [], 0, time.perf_counter()
    for step in range(first, updates):
        for group in optimizer.param_groups:
            group["lr"] = schedule(step)
        share = batches(step)
        unseen.append(update(accelerator, model, share, loss, optimizer, clip))
        tokens += sum(batch["inputs"].numel() for batch in share) * accelerator.num_processes
        due = step + 1 == updates or every and (step + 1) % every == 0
        if (step + 1) % patience and not due:
            continue
        seen = torch.stack(unseen).tolist()  # here the program waits for the GPU
        for value, norm in seen:
            if not math.isfinite(value) or not (math.isfinite(norm) or accelerator.scaler):
                raise FloatingPointError(f"loss {value}, gradient norm {norm} near update {step + 1}")
        seconds, losses = time.perf_counter() - clock, losses + [value for value, _ in seen]
        stop = accelerator.reduce(torch.tensor(len(asked), device=accelerator.device), "sum").item() > 0
        val = evaluate(step + 1) if evaluate and due and not stop else None
        if log:
            log(step + 1, seen, schedule(step), tokens, seconds, val)
        if save and (due or stop):
            save(step + 1)
        if stop:
            raise KeyboardInterrupt
        unseen, tokens, clock = [], 0, time.perf_counter()
    return losses
