"""Evaluate: is it good, or only memorising?"""

import json

import torch
from transformers import AutoModelForCausalLM

from handrail import village
from handrail.screen import Outcome, check
from handrail.steps.model import load_tokenizer
from handrail.steps.runs import run_script

TITLE = "The exam"
FILES = ["evaluate.py"]
LEAVES = ["evaluation.json"]
SECONDS = (15, 30)
MORE = """Bits per byte can be compared between any two models on the same text: about 1 is where a good small model is on
English, 8 is knowing nothing. The search for copies finds the longest run of tokens in the model's own writing that stands
in train word for word. Some copying is just how language is: val, which nobody copied, shares runs with train as well.
That is the number to compare with. Much longer runs mean that the model recites, and then it may recite private texts."""

STORIES = 200


def expect(project):
    lines = [
        "Below uniform, unigram and bigram on all of val; copies from train not much longer than val's own."
    ]
    if project.settings.get("world") == "village":
        lines.append(
            f"Of {STORIES} stories that it makes up, about 80 % follow the rules of the village: grammar, who is where, who has what."
        )
    return lines


def run(project, screen):
    watched = run_script(project, "evaluate")
    screen.print()
    result = json.loads((project.out / "evaluation.json").read_text())
    bits = result["bits_per_byte"]
    checks = [
        check(
            "loss on val",
            f"< {result['bigram']:.3f} (bigram)",
            f"{result['model']:.3f}",
            result["model"] < result["bigram"],
            "A table of neighbouring tokens does better.",
            f"more updates: {project.command()} --updates N",
        ),
        check("bits per byte", "below 8, knowing nothing", f"{bits:.3f}", bits < 8),
        check(
            "longest copy from train, tokens",
            f"about {result['val_copy']} (val's own)",
            result["copy"],
            result["copy"] <= 2 * result["val_copy"] + 10,
            "It recites. Do not share it if the texts are private.",
            "fewer updates, or more data",
            "warn",
        ),
    ]
    tells = (
        "It writes new text of the kind it has read; it does not recite."
        if checks[2].verdict == "pass"
        else "It recites from its data."
    )
    if project.settings.get("world") == "village":
        more, said = rules(project, result)
        checks, tells = checks + more, tells + said
    return Outcome(checks + watched, tells, result["samples"][:5])


def rules(project, result):
    """Return the checks that only the village allows: distance to the floor, and how many stories are right."""
    about = json.loads((project.out / "tokens" / "about.json").read_text())["val"]
    above = (result["model"] - result["floor"]) * (about["tokens"] - 1) / about["documents"]
    program = project.load("pretrain")
    tokenizer = load_tokenizer(project)
    model = AutoModelForCausalLM.from_pretrained(project.out / "model", dtype=torch.float32).eval()
    torch.manual_seed(0)
    written = program.pretrain.write(model, tokenizer, number=STORIES, length=128)
    texts = tokenizer.batch_decode(written)
    verdicts = [village.parse(text) for text in texts]
    valid = sum(verdict.valid for verdict in verdicts) / STORIES
    checks = [
        check(
            "nats a story above the floor",
            "≤ 0.4",
            f"{above:.2f}",
            above <= 0.4,
            "It has not learned all of the rules yet.",
            f"more updates: {project.command()} --updates N",
            "warn",
        ),
        check(
            "stories that follow all rules",
            "about 80 %, at least 70",
            f"{valid:.0%}",
            valid >= 0.7,
            "It has not learned all of the rules yet.",
            "more updates",
            "warn",
        ),
    ]
    wrong = next(
        (
            f" A wrong one: “{text}” ({verdict.why})."
            for text, verdict in zip(texts, verdicts)
            if not verdict.valid
        ),
        "",
    )
    return checks, f" {valid:.0%} of its stories are right in every detail.{wrong}"
