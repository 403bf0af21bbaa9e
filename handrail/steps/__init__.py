"""The steps of the walk, in order. A step is NAME.py and its words in NAME.md (see words.py).

Each module has expect(project) -> the values that its words name, and run(project, screen) ->
Outcome. What a step adds to the project, depends on and leaves is in steps.toml, so that
`handrail status` need not import them all, and PyTorch with them.
"""

import importlib
import tomllib
from functools import cache
from pathlib import Path

WALK = [
    "machine",
    "data",
    "tokenizer",
    "model",
    "overfit",
    "lr",
    "rehearse",
    "pretrain",
    "chat",
    "evaluate",
]
ANSWERS = ["examples", "finetune", "answers"]  # on top of the first walk: `handrail finetune`
LATER = ["inside", *ANSWERS, "dpo", "grpo", "share"]
SHORT = [
    "machine",
    "examples",
    "rehearse",
    "finetune",
    "chat",
    "answers",
]  # a pretrained model, and questions with answers


def path(project):
    """Return the steps of this project's walk: from texts, or from questions and answers."""
    return WALK if project.settings.get("data") else SHORT


@cache
def about(name):
    """Return what steps.toml says about a step."""
    file = Path(__file__).with_name("steps.toml")
    return tomllib.loads(file.read_text(encoding="utf-8")).get(name, {})


def files(project, name):
    """Return the program files that a step adds to the project."""
    found = about(name).get("files", [])
    if isinstance(found, list):
        return found
    return found["pretrain" if project.settings.get("data") else "finetune"]


def step(name):
    """Return the module of a step."""
    return importlib.import_module(f"handrail.steps.{name}")
