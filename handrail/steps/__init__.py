"""The steps of the walk, in order. Each module holds, in the order of the screen:

TITLE, FILES (what it adds), WHY (if no file has the lesson in its docstring), MORE (for `w`),
applies(project) -> reason to pass over, or "",   expect(project) -> lines,   run(project, screen) -> Outcome.
"""

import importlib

WALK = ["machine", "data", "tokenizer", "model", "overfit", "rate", "rehearse", "pretrain", "chat", "evaluate"]
LATER = ["share"]


def step(name):
    """Return the module of a step."""
    return importlib.import_module(f"handrail.steps.{name}")
