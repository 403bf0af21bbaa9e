"""The steps of the walk, in order. A step is NAME.py and its words in NAME.md (see words.py).

Each module has FILES (what it adds to the project; a function of the project where that depends),
expect(project) -> the values that its words name, run(project, screen) -> Outcome, and, where it
needs them, USES (the settings that it depends on) and LEAVES (what it makes in out/).
"""

import importlib

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


def files(project, name):
    """Return the program files that a step adds to the project."""
    found = step(name).FILES
    return found(project) if callable(found) else found


def step(name):
    """Return the module of a step."""
    return importlib.import_module(f"handrail.steps.{name}")
