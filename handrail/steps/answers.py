"""Answers: the same questions, before and after."""

import json

import torch

from handrail.project import Stop
from handrail.screen import Outcome, check
from handrail.steps.runs import run_script

TITLE = "The answers"
FILES = ["answers.py", "chat.py"]
USES = ["answers", "base", "finetune", "dpo", "grpo"]
LEAVES = ["answers.json"]
SECONDS = (20, 60)
MORE = """Exact answers can only be counted where there is one right answer. Elsewhere read them, before and after, side by
side: twenty are worth more than any number. `right` in answers.py says what counts as right. Change it where it is too
strict for your data (a long answer is never letter for letter the one in the file)."""


def expect(project):
    lines = [
        "The loss on answers never seen is lower than before, and far lower than with another question in its place."
    ]
    if project.settings.get("world") and not project.settings.get("answers"):
        lines.append("Of questions about village stories never seen, 95 % are answered exactly.")
    return lines


def run(project, screen):
    if not (project.out / "finetune" / "model").exists():
        raise Stop(f"There is no model that answers yet. First: {project.command('finetune')}")
    watched = run_script(project, "answers")
    screen.print()
    result = json.loads((project.out / "answers.json").read_text())
    before, after = result["before"], result["after"]
    known = project.settings.get("world") and not project.settings.get("answers")
    checks = [
        check(
            "loss on answers never seen",
            f"< {before['loss']:.3f}, before",
            f"{after['loss']:.3f}",
            after["loss"] < before["loss"],
            "It does not answer better than before.",
            "more examples, or another rate",
        ),
        check(
            "loss with another question in its place",
            f"> {after['loss']:.3f}",
            f"{after['blind_loss']:.3f}",
            after["blind_loss"] > 1.02 * after["loss"],
            "It does not read the question: any would do.",
            "look at three rows in the step `examples`",
            "warn",
        ),
        check(
            "exactly right",
            "95 %" if known else f"{before['exact']:.0%}, before",
            f"{after['exact']:.1%}",
            after["exact"] >= (0.95 if known else before["exact"]),
            "It has not learned all of it yet.",
            "more updates: finetune.updates in settings.toml",
            "warn",
        ),
        check(
            "answers that end by themselves",
            "all",
            f"{after['ended']:.0%}",
            after["ended"] >= 0.95,
            "It does not know when to stop.",
            f"{project.command('examples')}: is the end mark trained?",
            "warn",
        ),
        check("end mark in the saved model", *ends(project)),
        *watched,
    ]
    tells = f"{after['exact']:.0%} of the questions are answered exactly right, {before['exact']:.0%} were before."
    if known:
        tells += (
            f" Who always says the most frequent answer is right {result['blind']:.0%} of the time."
        )
    return Outcome(checks, tells, after["replies"][:5])


def ends(project):
    """Return (expected, measured, good): the token that ends an answer in the template, and the one at which generation stops."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    program = project.load("messages", "answers")
    folder = program.answers.newest(project.out)
    stops = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32
    ).generation_config.eos_token_id
    end = program.messages.end_of_turn(AutoTokenizer.from_pretrained(folder))[1]
    return end, stops, stops == end
