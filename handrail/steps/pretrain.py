"""Pretrain: the run."""

import json
import math
import statistics
import time

from handrail.cost import estimate
from handrail.project.screen import Outcome
from handrail.steps.model import load_tokenizer
from handrail.steps.runs import (
    duration,
    finished,
    lr_fell,
    make_room,
    read_metrics,
    run_script,
    whole_log,
)
from handrail.steps.words import Words, shown_if

FILES = ["baselines.py"]
USES = ["size", "base", "context", "batch", "updates", "lr", "seed"]
LEAVES = ["model/model.safetensors", "metrics.jsonl"]
LEARNS = "tokens/train.bin"


def expect(project):
    values = project.load().values
    guessers, floor = yardsticks(project)
    about = json.loads((project.out / "tokens" / "about.json").read_text())
    read = values.updates * values.batch * values.context
    sizes = {"updates": values.updates, "batch": values.batch, "context": values.context}
    found = {"floor": floor, "epochs": read / about["train"]["tokens"]}
    found |= shown_if(world=project.settings.get("world"))
    return guessers | sizes | found | {"few": max(1, values.updates // 20)}


def yardsticks(project):
    """Return the losses of the baselines on val, and the lowest possible loss if it is known."""
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
    began = time.perf_counter()
    watched = run_script(project, "pretrain")
    took = time.perf_counter() - began
    screen.print()
    metrics = read_metrics(project.out)
    if not any("val_loss" in line for line in metrics):
        log = whole_log(project.out, values.updates, metrics)
        return Outcome([log, *watched])  # the model is measured in the exam
    guessers, floor = yardsticks(project)
    found = facts(project, metrics, guessers, floor)
    found["took"] = None if before else duration(took)
    speed = statistics.median(line["tokens_per_second"] for line in metrics)
    if before:
        found["promised"], said = "of the run that was here", f"{speed:,.0f}"
    else:
        found["promised"], said = rehearsed(project, values, speed, mfu_of(project, speed))
    checks = [
        *judge(project, values, metrics, found),
        Words(project, "pretrain").check(
            "tokens per second (for your information)", said, True, **found
        ),
        *watched,
    ]
    lines = guessers | ({"lowest possible": floor} if floor else {})
    del lines["uniform"]  # the loss at the start: the curve begins there
    return Outcome(checks, found, plots={"Loss during the run": {"kind": "curve", "lines": lines}})


def facts(project, metrics, guessers, floor):
    """Return the values of the step's words, from what the run wrote down."""
    vals = [(line["step"], line["val_loss"]) for line in metrics if "val_loss" in line]
    final, best = vals[-1][1], min(val for _, val in vals)
    last = [line["loss"] for line in metrics[-max(1, len(metrics) // 20) :]]
    train = sum(last) / len(last)
    rehearsal = project.out / "rehearsal.json"
    seconds = json.loads(rehearsal.read_text()).get("seconds") if rehearsal.exists() else None
    found = guessers | {"final": final, "best": best, "train": train, "floor": floor, "vals": vals}
    found |= {"choices": math.exp(final), "all": math.exp(guessers["uniform"])}
    found |= {"all_loss": guessers["uniform"], "answer": f"{final:.3f}"}
    found |= {"above": floor and final - floor, "once": "" if final <= train else None}
    found["least"] = floor and 0.98 * floor
    half = min(vals, key=lambda pair: abs(pair[0] - len(metrics) / 2))[1]
    found |= {"half": half if half > final else None, "gain": half - final}
    found["passed_unigram"] = first_below(metrics, guessers["unigram"])
    found["passed_bigram"] = first_below(metrics, guessers["bigram"])
    found["expected"] = duration(seconds * len(metrics)) if seconds else "nothing"
    found["advice"] = advice(project, vals, best)
    return found


def first_below(metrics, level):
    """Return after how many updates the training loss was below `level`; None if it never was."""
    return next((f"{line['step']:,}" for line in metrics if line["loss"] < level), None)


def judge(project, values, metrics, found):
    """Return the checks of a run's metrics."""
    words, final, best = Words(project, "pretrain"), found["final"], found["best"]
    found = found | {"updates": values.updates}
    checks = [
        whole_log(project.out, values.updates, metrics),
        words.check("loss on val", f"{final:.3f}", final < found["bigram"], **found),
        words.check(
            "the loss on val ends at its lowest",
            f"{final:.3f}",
            final < best + 0.02,
            "warn",
            **found,
        ),
        lr_fell(metrics),
    ]
    if floor := found["floor"]:
        name = "not below the lowest possible loss"
        checks.append(words.check(name, f"{final:.3f}", final > floor * 0.98, **found))
    return checks


def advice(project, vals, best):
    """Return what to try if the model is worse than a table; more updates if val still fell."""
    if vals[-1][1] < best + 0.02:
        return f"{project.command('lr')}; or more updates: {project.command(' --updates N')}"
    step = next(step for step, val in vals if val == best)
    began = ""
    if not project.settings.get("base"):
        began = (
            "; or continue from a small open model, which knows the language already: "
            "--from HuggingFaceTB/SmolLM2-135M"
        )
    return (
        f"More updates would make it worse: val was lowest after update {step:,}. More text{began}"
    )


def rehearsed(project, values, speed, mfu):
    """Return (what the rehearsal promised, what it was); keep the two for later estimates."""
    note = project.out / "rehearsal.json"
    seconds = json.loads(note.read_text()).get("seconds") if note.exists() else None
    said = f"{speed:,.0f}, {mfu:.0%} of the machine's speed (30 to 50% is good)"
    if mfu > 1:
        said = f"{speed:,.0f}, more than was measured: the machine was busy in the first step"
    if not seconds:
        return "not rehearsed", said
    promised = values.batch * values.context / seconds
    estimate.remember(project, "tokens a second", promised, speed)
    return f"{promised:,.0f}, as rehearsed", said


def mfu_of(project, speed):
    """Return the MFU: 6 operations per parameter and token, as a share of what was measured."""
    from safetensors.torch import load_file

    weights = load_file(project.out / "model" / "model.safetensors").values()
    possible = json.loads((project.out / "machine.json").read_text())["tflops"] * 1e12
    return 6 * sum(tensor.numel() for tensor in weights) * speed / possible
