"""For renting: whose checkpoints are these, this run's or another's, and is that run complete?"""

import hashlib
import json
import tomllib

from handrail.steps.runs import differences

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
    """Return True if the checkpoints here are known to be another run's, by a mark or by themselves."""
    came = home(project, name) / "checkpoints" / "mark"
    if came.exists():
        return came.read_text() != mark(project.folder, name)
    return name in READ and bool(differences(project, name))


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
