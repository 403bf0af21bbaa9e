"""Pretrain: the run."""

import json
import math
import statistics

from safetensors.torch import load_file

from handrail import budget
from handrail.screen import Outcome, check
from handrail.steps.model import load_tokenizer
from handrail.steps.runs import finished, lr_fell, make_room, read_metrics, run_script

TITLE = "The run"
FILES = ["baselines.py"]
USES = ["size", "base", "context", "batch", "updates", "lr", "seed"]
LEAVES = ["model/model.safetensors", "metrics.jsonl"]
SECONDS = (60, 240)
WHY = """Everything is tried; now it may take its time. `python pretrain.py` is what runs, the script that you own. The
model learns from nothing but guessing the next token: first letters, then words, then grammar, then who did what.

Watch three things. The training loss falls. The loss on val, which it never trains on, falls with it; if it rises while
the other falls, the model learns by heart. And the sample sentences start to make sense. Ctrl-C stops and saves; the same
command goes on."""
MORE = """A loss curve has a shape: steep at first (which tokens are frequent), then a long slope (which follow which),
sometimes a shelf and a second fall (something was understood that needs several words at once). The rate rises in the
first updates, stays, and falls to zero at the end: the last stretch, where steps get small, often gains the most."""


def expect(project):
    values = project.load().values
    guessers, floor = yardsticks(project)
    known = f" The floor, below which no honest model can be: {floor:.3f}." if floor else ""
    return [
        f"{values.updates:,} updates of {values.batch} rows of {values.context} tokens.",
        f"Loss on val below {guessers['bigram']:.3f}: that is what a guesser reaches who sees only the one token before "
        f"(one who sees nothing: {guessers['unigram']:.3f}).{known}",
    ]


def yardsticks(project):
    """Return the losses of the counting guessers on val, and the floor (None where the data carries none)."""
    program = project.load("batches", "baselines")
    folder = project.out / "tokens"
    train, val = (program.batches.load_tokens(folder, side) for side in ("train", "val"))
    guessers = program.baselines.baselines(train, val, len(load_tokenizer(project)))
    return guessers, lowest_loss(project)


def lowest_loss(project):
    """Return the lowest possible loss on val, in nats per token; None if the data does not tell."""
    file = project.out / "floor.json"
    if not file.exists():
        return None
    about = json.loads((project.out / "tokens" / "about.json").read_text())["val"]
    return sum(json.loads(file.read_text())[: about["documents"]]) / (about["tokens"] - 1)


def run(project, screen):
    values = project.load().values
    before = finished(screen, project, "pretrain", values.updates)
    make_room(screen, project, "pretrain")
    watched = run_script(project, "pretrain")
    screen.print()
    metrics = read_metrics(project.out)
    guessers, floor = yardsticks(project)
    vals = [(line["step"], line["val_loss"]) for line in metrics if "val_loss" in line]
    final, best = vals[-1][1], min(val for _, val in vals)
    speed = statistics.median(line["tokens_per_second"] for line in metrics)
    checks = [
        check(
            "updates written down",
            f"{values.updates:,}",
            f"{len(metrics):,}",
            [m["step"] for m in metrics] == list(range(1, values.updates + 1)),
            "Lines are missing or double in out/metrics.jsonl.",
        ),
        check(
            "loss on val",
            f"< {guessers['bigram']:.3f} (bigram)",
            f"{final:.3f}",
            final < guessers["bigram"],
            "The model has learned less than a table of neighbouring tokens.",
            advice(project, vals, best),
        ),
        check(
            "val at the end is its best",
            f"{best:.3f}",
            f"{final:.3f}",
            final < best + 0.02,
            "val rose while the training loss fell: the model has begun to learn by heart.",
            "fewer updates, or more data",
            "warn",
        ),
    ]
    checks.append(lr_fell(metrics))
    if floor:
        checks.append(
            check(
                "not below the floor",
                f"≥ {floor * 0.98:.3f}",
                f"{final:.3f}",
                final > floor * 0.98,
                "Lower than is possible: val has leaked into train, or the model sees the answer.",
                project.command("model"),
            )
        )
    promised = (
        ("of the run that was here", f"{speed:,.0f}")
        if before
        else rehearsed(project, values, speed, mfu_of(project, speed))
    )
    checks.append(check("tokens a second (for your information)", *promised, True))
    checks += watched
    tells = f"The model predicts a token of val about as well as if it chose among {math.exp(final):.1f}, where a new one chooses among {math.exp(guessers['uniform']):.0f}."
    if floor:
        tells += f" It is {final - floor:.3f} nats a token above the floor."
    return Outcome(
        checks,
        tells,
        plots={
            "Loss, update by update": {
                "kind": "curve",
                "lines": guessers | ({"floor": floor} if floor else {}),
            }
        },
    )


def advice(project, vals, best):
    """Return what to try if the model is worse than a table: where val rose at the end, more of the same would make it worse."""
    if vals[-1][1] < best + 0.02:
        return f"{project.command('lr')}; or more updates: {project.command()} --updates N"
    step = next(step for step, val in vals if val == best)
    began = (
        ""
        if project.settings.get("base")
        else "; or go on from a small open model, which knows the language already: --from HuggingFaceTB/SmolLM2-135M"
    )
    return (
        f"More updates would make it worse: val was lowest after update {step:,}. More text{began}"
    )


def rehearsed(project, values, speed, mfu):
    """Return (what the rehearsal promised, what it was and how far off that is), and keep the two for later estimates."""
    note = project.out / "rehearsal.json"
    seconds = json.loads(note.read_text()).get("seconds") if note.exists() else None
    said = f"{speed:,.0f} (MFU {mfu:.0%})"
    if not seconds:
        return "not rehearsed", said
    promised = values.batch * values.context / seconds
    budget.remember(project, "tokens a second", promised, speed)
    return f"{promised:,.0f}, as rehearsed", f"{said}, {speed / promised - 1:+.0%}"


def mfu_of(project, speed):
    """Return the model FLOPs utilisation: 6 floating-point operations a parameter and token, over what was measured as possible."""
    parameters = sum(
        tensor.numel() for tensor in load_file(project.out / "model" / "model.safetensors").values()
    )
    return (
        6
        * parameters
        * speed
        / (json.loads((project.out / "machine.json").read_text())["tflops"] * 1e12)
    )
