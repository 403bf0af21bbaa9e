"""The notebook: out/notebook.html, one page with what was expected, measured and learned.

It is drawn again after every step from what is in out/. It needs no network and no script. A field
that is missing, or a record that cannot be read, never stops the walk. Its page is notebook.html.
"""

import json
import re
from functools import partial
from html import escape
from pathlib import Path

from jinja2 import Environment, FileSystemLoader
from markupsafe import Markup

from handrail.project.plots import draw
from handrail.project.project import read_settings
from handrail.project.screen import CONTROLS

HOUSE = Path(__file__).parent
SIGNS = {"pass": "✓", "warn": "!", "fail": "✗", "to do": "·"}


def read(text):
    """Return the JSON object in `text`; an empty one if it is half-written or something else."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def worst(record):
    """Return the verdict of a step: that of its worst check, or "to do" if there is none."""
    verdicts = {check.get("verdict") for check in record.get("checks", [])}
    return next((verdict for verdict in ("fail", "warn", "pass") if verdict in verdicts), "to do")


def prose(text):
    """Return paragraphs of HTML; *word*, **word**, `code` and the trap are highlighted."""
    page = ""
    for part in text if isinstance(text, list) else str(text or "").split("\n\n"):
        part = escape(" ".join(str(part).translate(CONTROLS).split()))
        part = re.sub(r"`([^`]+)`", r"<code>\1</code>", part)
        part = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", part)
        part = re.sub(r"(?<![\w*])\*(\w[^*]*)\*", r"<em>\1</em>", part)
        kind = " class=trap" if part.startswith("The trap") else ""
        page += f"<p{kind}>{part}</p>" if part else ""
    return Markup(page)


def picture(spec, metrics):
    """Return a plot, as places in a picture; if it cannot be drawn, why."""
    try:
        return draw(spec, metrics)
    except Exception as error:  # whatever a step or an older project wrote there
        return {"problem": repr(error)}


def summary(project, walk, records, metrics):
    """Return what a reader wants to know first: data, model, loss, and how far the walk is."""
    settings = project.settings
    verdicts = [check.get("verdict") for r in records.values() for check in r.get("checks", [])]
    counts = {"passed": "pass", "to look at": "warn", "failed": "fail"}
    found = [f"{verdicts.count(v)} {word}" for word, v in counts.items() if v in verdicts]
    taken = sum(name in records for name in walk)
    minutes = sum(record.get("seconds", 0) for record in records.values()) / 60
    new = f"from scratch, size {settings.get('size')}"
    facts = {
        "data": settings.get("data"),
        "model": settings.get("base") or (new if settings.get("size") else None),
        "steps": f"{taken} of {len(walk)} taken, {minutes:.1f} minutes in all",
        "checks": ", ".join(found),
    }
    if metrics:
        vals = [m["val_loss"] for m in metrics if m.get("val_loss") is not None]
        facts["updates"] = f"{metrics[-1]['step']:,}"
        facts["loss on val"] = f"{vals[-1]:.3f}" if vals else None
    return facts


def write(project, walk, later):
    """Draw out/notebook.html from out/steps/, out/metrics.jsonl and settings.toml.

    The steps of `walk` are listed, those of `later` if they were taken.
    """
    notes = {name: project.out / "steps" / f"{name}.json" for name in dict.fromkeys(walk + later)}
    records = {name: read(note.read_text()) for name, note in notes.items() if note.exists()}
    log = project.out / "metrics.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    metrics = [line for line in map(read, lines) if "step" in line]
    page = Environment(loader=FileSystemLoader(HOUSE), autoescape=True, trim_blocks=True)
    page.filters |= {"prose": prose, "picture": partial(picture, metrics=metrics)}
    text = page.get_template("notebook.html").render(
        name=project.folder.name,
        style=Markup((HOUSE / "notebook.css").read_text()),
        facts=summary(project, walk, records, metrics),
        steps=[name for name in notes if name in walk or name in records],
        settings=read_settings(project.folder / "settings.toml"),
        records=records,
        worst=worst,
        signs=SIGNS,
    )
    (project.out / "notebook.html").write_text(text, encoding="utf-8", errors="replace")
