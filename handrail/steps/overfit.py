"""Overfit: a program that cannot memorise one batch cannot learn."""

from handrail.project.screen import Outcome
from handrail.steps.model import load_tokenizer
from handrail.steps.runs import changed_files, doctor_checks
from handrail.steps.words import Words

FILES = ["train.py"]
USES = ["size", "base", "context"]

MEANT = {"too-many-epochs"}  # what this step does on purpose
UPDATES, ROWS, CONTEXT = 300, 4, 128
USUAL = (20, 120)  # updates until four rows are known by heart, in sizes 1m to 85m (LOG.md)


def lr_of(width):
    """Return a learning rate at which this test is known to pass: wider models want lower ones."""
    return 3e-3 * min(1, 128 / width) ** 0.75


def expect(project):
    low, high = USUAL
    initial = "the loss of the step before"
    if note := project.record("model"):
        initial = f"{note['values'].get('loss', 0):.2f}"
    return {"low": low, "high": high, "initial": initial}


def run(project, screen):
    import torch

    from handrail import Doctor

    words = Words(project, "overfit")
    program = project.load("train", "model", "batches")
    values = program.values
    accelerator = program.settings.start(values)
    model = program.model.build(values, load_tokenizer(project))
    optimizer = torch.optim.AdamW(model.parameters(), lr_of(model.config.hidden_size))
    model, optimizer = accelerator.prepare(model, optimizer)
    tokens = program.batches.load_tokens(project.out / "tokens", "train")
    context = min(CONTEXT, values.context)
    rows = [program.batches.row(tokens, context, values.seed, number) for number in range(ROWS)]
    batch, losses = program.batches.to_batch(rows), []
    loss, doctor = program.train.next_token_loss, Doctor(model, optimizer)
    model.train()
    while len(losses) < UPDATES and min(losses, default=1) >= 0.1:
        ten = []
        for _ in range(10):
            ten.append(program.train.update(accelerator, model, [batch], loss, optimizer))
            now = f": loss {losses[-1]:.3f}" if losses else ""
            screen.progress(f"update {len(losses) + len(ten)}, at most {UPDATES}{now}")
        losses += torch.stack(ten)[:, 0].tolist()  # here a GPU is waited for, once per ten updates
    doctor.close()
    asked = program.train.mean_loss(accelerator, model, [batch], loss)
    best, when = min(losses), next((i + 1 for i, loss in enumerate(losses) if loss < 0.1), None)
    found = {"when": when, "changed": changed_files(project), "targets": batch["count"]}
    found |= {"failed": None if when else "", "answer": f"{when} updates"}
    shown = expect(project) | found | {"ceiling": max(losses[-1], 0.1)}
    low, high = USUAL
    checks = [
        words.check("lowest loss on the batch", f"{best:.3f}", best < 0.1, **shown),
        words.check(
            "updates until the loss was below 0.1",
            when,
            low <= (when or 0) <= high,
            "warn",
            **shown,
        ),
        words.check(
            "loss after the last update, without training",
            f"{asked:.3f}",
            asked <= shown["ceiling"] + 0.01,
            **shown,
        ),
        *doctor_checks([finding for finding in doctor.findings if finding.name not in MEANT]),
    ]
    plot = {"kind": "line", "x": list(range(1, len(losses) + 1)), "y": losses}
    plot |= {"xlabel": "update", "ylabel": "loss", "lines": {"goal": 0.1}}
    return Outcome(checks, found, plots={"Loss on the same batch, update by update": plot})
