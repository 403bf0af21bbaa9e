"""Overfit: a loop that cannot memorise one batch cannot learn."""

import torch

from handrail.screen import Outcome, check

TITLE = "Overfit one batch"
FILES = ["train.py"]
MORE = """A model with a hundred times more weights than the batch has tokens should learn that batch by heart in
seconds. If it cannot, then something between data and weights is broken: targets shifted wrongly, a gradient that does
not arrive, a rate that is far off. Nothing here is about being clever; it is about the loop being connected. Real
training is the opposite: so much data that learning by heart is not possible, and only the rules behind it help."""

UPDATES, RATE, ROWS = 100, 3e-3, 4


def expect(project):
    return [
        f"The same {ROWS} rows, shown {UPDATES} times. The loss should fall below 0.1: it then knows them by heart. "
        "(This is the only time that we want that.)"
    ]


def run(project, screen):
    settings_module, batches, model_module, train_module = project.load("settings", "batches", "model", "train")
    settings = project.read()
