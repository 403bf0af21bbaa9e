"""lr: the one knob that matters most."""

import math

from handrail.project.screen import Outcome
from handrail.steps.model import load_tokenizer
from handrail.steps.rehearse import fit
from handrail.steps.words import Words, shown_if

FILES = ["optimizer.py"]
USES = ["size", "base", "context", "batch"]

UPDATES, LEAST, PATIENCE = 40, 8, 240  # updates at each rate, at least; seconds for all of them


def grid(values):
    """Return the rates to try: each about three times the one before."""
    return [3e-5, 1e-4, 3e-4, 1e-3, 3e-3] if values.base else [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]


def expect(project):
    values = project.load().values
    rates = grid(values)
    return {
        "number": len(rates),
        "rates": ", ".join(f"{lr:g}" for lr in rates),
        "updates": f"at most {min(UPDATES, values.updates)}",
    }


def runs(project, screen):
    """Yield (rate, losses of a short run with it), all from the same weights.

    `fit` times an update; so many are made that all runs together take PATIENCE seconds.
    """
    import torch

    _, seconds, _ = fit(project)
    program = project.load("train", "model", "batches", "optimizer")
    values = program.values
    # all of them together take no more updates than the run itself, where that is short
    updates = int(
        min(UPDATES, max(LEAST, min(PATIENCE / seconds, values.updates) / len(grid(values))))
    )
    accelerator = program.settings.start(values)
    batches = program.batches.train_batches(
        program.batches.load_tokens(project.out / "tokens", "train"), values
    )
    model = accelerator.prepare(program.model.build(values, load_tokenizer(project)))
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    for lr in grid(values):
        model.load_state_dict(start)
        optimizer = accelerator.prepare(program.optimizer.make_optimizer(model, lr))
        schedule = program.optimizer.make_schedule(lr, updates)
        seen, loss = [], program.train.next_token_loss
        model.train()
        for step in range(updates):
            for group in optimizer.param_groups:
                group["lr"] = schedule(step)
            seen.append(program.train.update(accelerator, model, batches(step), loss, optimizer))
            screen.progress(f"rate {lr:g}: {step + 1} of {updates} updates")
        losses = torch.stack(seen)[:, 0].tolist()
        yield lr, losses if math.isfinite(losses[-1]) else [*losses[:1], math.inf]
        # it keeps every optimizer that it prepared, and would unscale the gradients once for each
        accelerator.free_memory()


def run(project, screen):
    words = Words(project, "lr")
    values, losses, first = project.load().values, {}, math.inf
    for lr, seen in runs(project, screen):
        first = min(first, seen[0])  # all start from the same weights
        losses[lr] = sum(seen[-5:]) / len(seen[-5:])
        screen.print(f"  rate {lr:<7g} loss {losses[lr]:.3f} after {len(seen)} updates")
    screen.print()
    lowest = min(losses, key=losses.get)
    low = losses[lowest]
    good = [lr for lr, loss in losses.items() if first - loss >= 0.95 * (first - low) > 0]
    asked = project.persons("lr", "lr")
    if not asked:
        why = "the smallest rate that made 95% of the best one's progress in a short run"
        project.decide("lr", min(good, default=min(losses)), why)
    picked = project.settings["lr"]
    finite = {lr: loss for lr, loss in losses.items() if loss < 2 * first}
    found = {"first": first, "low": low, "lowest": lowest, "picked": picked}
    found["high"] = max(finite.values(), default=low)
    found["spread"] = found["high"] - low
    found["answer"] = f"{lowest:g} has the lowest loss, {low:.3f}"
    same = lowest == picked
    found |= shown_if(asked=asked, same=same and not asked, smaller=not same and not asked)
    inside = grid(values)[0] < picked < grid(values)[-1]
    checks = [
        words.check("lowest loss", f"{low:.3f}", low < first, **found),
        words.check("chosen rate", f"{picked:g}", inside, "warn", **found),
    ]
    plot = {"kind": "line", "x": list(finite), "y": list(finite.values()), "logx": True}
    plot |= {"xlabel": "learning rate", "ylabel": "loss", "mark": picked}
    return Outcome(
        checks, found, plots={"Loss at the end of each short run (line: the chosen rate)": plot}
    )
