"""Evaluate: is it good, or only memorising?"""

import json
import math

from handrail.data import village
from handrail.project.screen import Outcome
from handrail.steps.model import load_tokenizer
from handrail.steps.runs import read_metrics, run_script
from handrail.steps.words import Words, shown_if

FILES = ["evaluate.py"]
LEAVES = ["evaluation.json"]

STORIES = 200  # of the built-in world, that the model makes up


def expect(project):
    world = project.settings.get("world")
    return {"stories": STORIES if world else None} | shown_if(built_in=world)


def run(project, screen):
    watched = run_script(project, "evaluate")
    screen.print()
    words = Words(project, "evaluate")
    result = json.loads((project.out / "evaluation.json").read_text())
    loss, bits, copy, most = (result[k] for k in ("model", "bits_per_byte", "copy", "val_copy"))
    recites = copy > 2 * most + 10
    found = {"loss": loss, "bits": bits, "copy": copy, "val_copy": most, "bigram": result["bigram"]}
    found |= shown_if(recites=recites, new=not recites)
    found["few"] = max(1, project.load().values.updates // 10)
    found |= dict.fromkeys(("valid", "wrong"))
    vals = [line["val_loss"] for line in read_metrics(project.out) if "val_loss" in line]
    found["run_loss"] = vals[-1] if vals and f"{vals[-1]:.3f}" != f"{loss:.3f}" else None
    checks = [
        words.check("loss on val", f"{loss:.3f}", loss < result["bigram"], **found),
        words.check("longest copy from train, tokens", copy, not recites, "warn", **found),
    ]
    if project.settings.get("world"):
        found |= rules(project, result)
        above, valid = found["above"], found["valid"]
        low = "nats per story above the lowest possible"
        checks += [
            words.check(low, f"{above:.2f}", above <= 0.4, "warn"),
            words.check("stories that follow all rules", f"{valid:.0%}", valid >= 0.7, "warn"),
        ]
    return Outcome(checks + watched, found, result["samples"][:3])


def rules(project, result):
    """Return what only the built-in world can tell, as values of the words.

    How far the loss is above the lowest possible, how many stories are right, and a wrong one.
    """
    import torch
    from transformers import AutoModelForCausalLM

    about = json.loads((project.out / "tokens" / "about.json").read_text())["val"]
    per_story = (about["tokens"] - 1) / about["documents"]
    above = result["model"] - result["floor"]
    program = project.load("pretrain")
    model = AutoModelForCausalLM.from_pretrained(project.out / "model", dtype=torch.float32).eval()
    torch.manual_seed(0)
    tokenizer = load_tokenizer(project)
    written = program.pretrain.write(model, tokenizer, number=STORIES, length=128)
    texts = tokenizer.batch_decode(written)
    verdicts = [village.parse(text) for text in texts]
    valid = sum(verdict.valid for verdict in verdicts) / STORIES
    pairs = zip(texts, verdicts, strict=True)
    wrong, why = next(((text, v.why) for text, v in pairs if not v.valid), (None, None))
    luck = 200 * math.sqrt(valid * (1 - valid) / STORIES)  # two standard errors, in points
    found = {
        "luck": luck,
        "stories": STORIES,
        "valid": valid,
        "per_token": above,
        "tokens": per_story,
        "above": above * per_story,
    }
    return found | {"wrong": wrong, "why_wrong": why, "answer": f"{100 * valid:.0f} of 100"}
