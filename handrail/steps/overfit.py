"""Overfit: a loop that cannot memorise one batch cannot learn."""

import torch

from handrail.screen import Outcome, check
from handrail.steps.model import load_tokenizer

TITLE = "Overfit one batch"
FILES = ["train.py"]
USES = ["size", "base", "context"]
SECONDS = (8, 12)
MORE = """A model with a hundred times more weights than the batch has tokens should learn that batch by heart in
seconds. If it cannot, then something between data and weights is broken: targets shifted wrongly, a gradient that does
not arrive, a rate that is far off. Nothing here is about being clever; it is about the loop being connected. Real
training is the opposite: so much data that learning by heart is not possible, and only the rules behind it help."""

UPDATES, ROWS, CONTEXT = 300, 4, 128


def rate(width):
    """Return a rate at which this test is known to pass: wider models want smaller ones."""
    return 3e-3 * min(1, 128 / width) ** 0.75


def expect(project):
    return [
        f"The same {ROWS} rows, shown up to {UPDATES} times. The loss should fall below 0.1: the model then knows them by "
        "heart. This is the only time that we want that."
    ]


def run(project, screen):
    program = project.load("train", "model", "batches")
    values = program.values
    accelerator = program.settings.start(values)
    model = program.model.build(values, load_tokenizer(project))
    lr = rate(model.config.hidden_size)
    model, optimizer = accelerator.prepare(model, torch.optim.AdamW(model.parameters(), lr))
    tokens = program.batches.load_tokens(project.out / "tokens", "train")
    rows = [
        program.batches.row(tokens, min(CONTEXT, values.context), values.seed, number)
        for number in range(ROWS)
    ]
    batch, losses = program.batches.to_batch(rows), []
    loss = program.train.next_token_loss
    model.train()
    while len(losses) < UPDATES and min(losses, default=1) >= 0.1:
        ten = [
            program.train.update(accelerator, model, [batch], loss, optimizer) for _ in range(10)
        ]
        losses += torch.stack(ten)[:, 0].tolist()  # a GPU is waited for here, and not every time
    asked = program.train.mean_loss(accelerator, model, [batch], program.train.next_token_loss)
    best, when = min(losses), next((i + 1 for i, loss in enumerate(losses) if loss < 0.1), None)
    checks = [
        check("loss at the start", "as before", f"{losses[0]:.2f}", True),
        check(
            "lowest loss on the batch",
            "< 0.1",
            f"{best:.3f}",
            best < 0.1,
            "The loop cannot even learn four rows by heart, so it will learn nothing.",
            "Look at what changed in train.py, batches.py or model.py: `git diff`. Targets shifted twice? Gradients zeroed too early?",
        ),
        check(
            "the same, asked without training",
            f"≤ {max(losses[-1], 0.1):.3f}",
            f"{asked:.3f}",
            asked <= max(losses[-1], 0.1) + 0.01,
            "`mean_loss` and the loop disagree about one and the same batch.",
            "`git diff train.py`",
        ),
    ]
    tells = f"After {when} updates the loop had learned {batch['count']} answers by heart: data, loss, gradient and optimizer are connected."
    plot = {
        "kind": "line",
        "x": list(range(1, len(losses) + 1)),
        "y": losses,
        "xlabel": "update",
        "ylabel": "loss",
        "lines": {"goal": 0.1},
    }
    return Outcome(
        checks,
        tells if when else "Something between data and weights is not connected.",
        plots={"One batch, again and again": plot},
    )
