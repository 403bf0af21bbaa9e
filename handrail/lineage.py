"""Whose are the checkpoints that lie here? Of the run that settings and data make now, or of another; and is that run whole?"""

import hashlib
import json
import tomllib

READ = {
    "pretrain": "out/tokens/about.json",
    "finetune": "out/chats/train.jsonl",
}  # what tells one run's data from another's
LOOSE = {
    "prompt",
    "rows_at_once",
    "compile",
    "answers",
    "pairs",
}  # settings that may change during a run, and those of other steps


def home(project, name):
    """Return the folder that a script's run fills with checkpoints, metrics and model."""
    return project.out if name == "pretrain" else project.out / name


def newest(folder):
    """Return the name of the newest checkpoint in a folder of them, "" where there is none."""
    return max((path.name for path in folder.glob("[0-9]*") if path.name.isdigit()), default="")


def lines(folder):
    """Return what folder/metrics.jsonl holds, whole lines only."""
    file = folder / "metrics.jsonl"
    text = file.read_text() if file.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def lasting(settings, name):
    """Return the settings that make a run what it is, of those read from settings.toml."""
    return {
        key: value
        for key, value in (settings | settings.get(name, {})).items()
        if not isinstance(value, dict) and key not in LOOSE
    }


def mark(folder, name):
    """Return a short mark of what is run, its settings and what it reads: another run never goes on from this one's checkpoints."""
    settings, data = (
        tomllib.loads((folder / "settings.toml").read_text(encoding="utf-8")),
        folder / READ[name],
    )
    digest = hashlib.sha256(json.dumps(lasting(settings, name), sort_keys=True).encode())
    digest.update(data.read_bytes() if data.exists() else b"")
    return digest.hexdigest()[:6]


def of_another_run(project, name):
    """Return True if what lies here is known to be another run's: by the mark it came home with, the note of the step that made it, or, begun by hand, its rate."""
    came, note = home(project, name) / "checkpoints" / "mark", home(project, name) / "run.json"
    if came.exists():
        return came.read_text() != mark(project.folder, name)
    settings = project.settings if name == "pretrain" else project.settings.get(name, {})
    if note.exists():
        return any(
            settings.get(key) != value for key, value in json.loads(note.read_text()).items()
        )
    return name in READ and any(
        apart(project, name, line) for line in lines(home(project, name))[-1:]
    )


def apart(project, name, line):
    """Return True if a run of these settings would have had another learning rate at the update that a line of metrics tells of."""
    program = project.load("optimizer")
    values = program.settings.read("", project.flags, name)
    return (
        abs(
            program.optimizer.make_schedule(values.lr, values.updates)(line["step"] - 1)
            - line["lr"]
        )
        > 1e-6 * values.lr
    )


def whole(project, name, updates):
    """Return True if all updates are made and the model that lies here was saved after the last of them."""
    place = home(project, name)
    last, model = newest(place / "checkpoints"), place / "model" / "config.json"
    if int(last or 0) < updates or not model.exists():
        return False
    return all(
        file.stat().st_mtime <= model.stat().st_mtime
        for file in (place / "checkpoints" / last).rglob("*")
        if file.is_file()
    )
