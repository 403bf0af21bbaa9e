"""lr: the one knob that matters most."""

import math

import torch

from handrail.screen import Outcome, check
from handrail.steps.model import load_tokenizer
from handrail.steps.rehearse import fit

TITLE = "The learning rate"
FILES = ["optimizer.py"]
USES = ["size", "base", "context", "batch"]
SECONDS = (15, 45)
MORE = """The gradient only says what is true right here, like a slope under your feet in fog. A small step is safe and
slow. A large one lands where the slope was never measured. Between them is a valley of good rates, often a factor of ten
wide; beyond its right edge the loss jumps. Short runs make high rates look better than they are in long ones, so of the
rates that make nearly the best one's progress, the smallest is taken."""

UPDATES, LEAST, PATIENCE = 40, 8, 240  # updates at each rate, at least; seconds for all of them


def grid(values):
    """Return the rates to try: each about three times the one before."""
    return [3e-5, 1e-4, 3e-4, 1e-3, 3e-3] if values.base else [1e-3, 3e-3, 1e-2, 3e-2, 1e-1]


def expect(project):
    rates = grid(project.load().values)
    return [
        f"{len(rates)} short runs of {UPDATES} updates (fewer if they are slow or the run is short) from the same start, rates {rates[0]:g} to {rates[-1]:g}.",
        "The loss falls, then rises again as the rate grows: a valley, with the best rate inside it, not at an edge.",
    ]


def runs(project):
    """Yield (rate, losses of a short run with it), all from the same weights, in the time that `fit` finds an update to take."""
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
        losses = torch.stack(seen)[:, 0].tolist()
        yield lr, losses if math.isfinite(losses[-1]) else [*losses[:1], math.inf]
        accelerator.free_memory()  # it keeps every optimizer that it prepared, and unscales the gradients once for each


def run(project, screen):
    values, losses, first = project.load().values, {}, math.inf
    for lr, seen in runs(project):
        first = min(first, seen[0])  # all start from the same weights
        losses[lr] = sum(seen[-5:]) / len(seen[-5:])
        screen.print(f"  rate {lr:<7g} loss {losses[lr]:.3f} after {len(seen)} updates")
    screen.print()
    finite = {lr: loss for lr, loss in losses.items() if loss < 2 * first}
    low = min(losses.values())
    best = min(
        (lr for lr, loss in losses.items() if first - loss >= 0.95 * (first - low) > 0),
        default=min(losses),
    )
    if not project.asked("lr"):
        project.decide(
            "lr",
            best,
            "the smallest rate that makes 95 % of the best one's progress in a short run",
        )
    picked = project.settings["lr"]
    checks = [
        check(
            "lowest loss",
            f"< {first:.2f}, the start",
            f"{low:.3f}",
            low < first,
            "No rate learns anything.",
            project.command("overfit"),
        ),
        check(
            "picked rate",
            "inside the valley",
            f"{picked:g}",
            grid(values)[0] < picked < grid(values)[-1],
            "It lies at the edge of what was tried, or outside: a better one may lie further on.",
            f"choose it yourself: {project.command()} --lr RATE",
            "warn",
        ),
    ]
    plot = {
        "kind": "line",
        "x": list(finite),
        "y": list(finite.values()),
        "xlabel": "learning rate",
        "ylabel": "loss",
        "logx": True,
        "mark": picked,
    }
    spread = f"Between the best and the worst of these rates lie {max(finite.values(), default=low) - low:.2f} nats after the same work. "
    return Outcome(
        checks,
        f"{spread}The run will use {picked:g}.",
        plots={"The sweep: loss at the end of short runs": plot},
    )
