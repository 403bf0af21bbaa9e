"""The notebook: out/notebook.html, one page that shows what was expected, what was measured and what it told.

It is redrawn after every step from what is in out/, needs no network and no script, and shows what is there: a
field that is missing, or a record that cannot be read, never stops the walk.
"""

import json
import re
from html import escape
from pathlib import Path

from handrail.plots import draw
from handrail.steps import LATER, WALK, path

SIGNS = {"pass": "✓", "warn": "!", "fail": "✗", "to do": "·"}
STYLE = Path(__file__).with_suffix(".css")
SETTING = re.compile(
    r'([\w.]+)\s*=\s*("(?:\\.|[^"\\])*"|[^#]*?)\s*(?:#\s*(.*))?$'
)  # name = value  # why

# --- reading what is there ---


def read(text):
    """Return the JSON object in `text`, or an empty one when it is half-written or something else."""
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def read_all(project):
    """Return the records of the steps taken (by name, in order), the metrics, and the settings as (name, value, why)."""
    files = {name: project.out / "steps" / f"{name}.json" for name in WALK + LATER}
    records = {name: read(file.read_text()) for name, file in files.items() if file.exists()}
    metrics, settings = project.out / "metrics.jsonl", project.folder / "settings.toml"
    lines = metrics.read_text().splitlines() if metrics.exists() else []
    chosen = (
        [SETTING.match(line) for line in settings.read_text().splitlines()]
        if settings.exists()
        else []
    )
    return (
        records,
        [m for m in map(read, lines) if "step" in m],
        [found.groups("") for found in chosen if found],
    )


def worst(record):
    """Return the verdict of a step: that of its worst check, or "to do" when none is there."""
    verdicts = {check.get("verdict") for check in record.get("checks", [])}
    return next((verdict for verdict in ("fail", "warn", "pass") if verdict in verdicts), "to do")


# --- the parts of the page ---


def figure(caption, spec, metrics):
    """Return a plot with its caption; when it cannot be drawn, the page says why."""
    try:
        picture = draw(spec, metrics)
    except Exception as error:  # whatever a step or an older project wrote there
        picture = f'<p class="quiet">This plot could not be drawn: {escape(repr(error))}</p>'
    return f"<figure>{picture}<figcaption>{escape(caption)}</figcaption></figure>"


def prose(text):
    """Return paragraphs: separated by blank lines; *word*, `code` and the trap are highlighted."""
    page = ""
    for part in text if isinstance(text, list) else str(text or "").split("\n\n"):
        part = re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(str(part).split())))
        part = re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", part)
        part = re.sub(r"(?<![\w*])\*(\w[^*]*)\*", r"<em>\1</em>", part)
        page += (
            f"<p{' class=trap' if part.startswith('The trap') else ''}>{part}</p>" if part else ""
        )
    return page


def table(heads, rows, kind):
    """Return a table of cells that are HTML already; each cell carries its heading, for narrow screens."""
    head = "".join(f"<th>{name}</th>" for name in heads)
    body = "".join(
        "<tr>"
        + "".join(f'<td data-head="{name}">{cell}</td>' for name, cell in zip(heads, row))
        + "</tr>"
        for row in rows
    )
    return f"<table class={kind}><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def sign(verdict):
    return f'<span class="{verdict.replace(" ", "")}">{SIGNS.get(verdict, "?")}</span>'


def measured(checks):
    """Return each number next to what was expected, then what those that did not pass mean."""
    if not checks:
        return ""
    fields = ("name", "expected", "measured")
    rows = [
        [sign(c.get("verdict", "")), *(escape(str(c.get(field, ""))) for field in fields)]
        for c in checks
    ]
    page = "<h3>Measured</h3>" + table(["", "", "expected", "measured"], rows, "checks")
    for c in checks:
        told = [c.get("meaning"), c.get("advice") and f"Try next: {c['advice']}"]
        if c.get("verdict") != "pass" and any(told):
            name, text = escape(c.get("name", "")), prose([part for part in told if part])
            page += f'<div class="note {c.get("verdict")}"><strong>{name}</strong>{text}</div>'
    return page


def samples(texts):
    """Return texts worth reading: three of them at once, the others on a click."""
    quotes = [f"<blockquote>{escape(str(text))}</blockquote>" for text in texts]
    more = (
        f"<details><summary>{len(quotes) - 3} more</summary>{''.join(quotes[3:])}</details>"
        if quotes[3:]
        else ""
    )
    return "<h3>Samples</h3>" + "".join(quotes[:3]) + more if quotes else ""


def headed(head, text):
    """Return paragraphs under a heading, nothing if there are none."""
    return f"<h3>{head}</h3>{prose(text)}" if text else ""


def section(name, record, metrics):
    """Return one step, in the order in which it was on the screen."""
    if not record:
        return f'<section id={name}><h2>{name}</h2><p class="quiet">out/steps/{name}.json cannot be read.</p></section>'
    facts = [
        name,
        *(
            text.format(record[key])
            for key, text in (("seconds", "{:,} s"), ("commit", "commit {}"))
            if record.get(key)
        ),
    ]
    page = f"<h2>{sign(worst(record))} {escape(record.get('title', name))}</h2>"
    page += f'<p class="quiet">{escape(" · ".join(facts))}</p>'
    page += prose(record.get("why"))
    page += headed("New words", record.get("words"))
    page += headed("Expected", record.get("expect"))
    page += measured(record.get("checks", []))
    for part in ("What this tells you", "Try it"):
        if record.get(part):
            page += f"<div class=tells>{headed(part, record[part])}</div>"
    page += "".join(
        figure(caption, spec, metrics) for caption, spec in record.get("plots", {}).items()
    )
    return f"<section id={name}>{page}{samples(record.get('samples', []))}</section>"


def summary(project, records, metrics, settings):
    """Return what a reader wants to know first: data, model, loss, and how far the walk is."""
    value = {name: text.strip('"') for name, text, _ in settings}
    verdicts = [
        check.get("verdict") for record in records.values() for check in record.get("checks", [])
    ]
    told = {"pass": "passed", "warn": "to look at", "fail": "failed"}
    counts = [
        f"{verdicts.count(verdict)} {word}" for verdict, word in told.items() if verdict in verdicts
    ]
    taken = [name for name in path(project) if name in records]
    facts = {
        "data": value.get("data"),
        "model": value.get("base") or value.get("size") and f"from scratch, size {value['size']}",
        "steps": f"{len(taken)} of {len(path(project))} taken, {sum(r.get('seconds', 0) for r in records.values()) / 60:.1f} minutes in all",
        "checks": ", ".join(counts),
    }
    if metrics:
        vals = [m["val_loss"] for m in metrics if m.get("val_loss") is not None]
        facts["updates"] = f"{metrics[-1]['step']:,}" + (
            f", loss on val {vals[-1]:.3f}" if vals else ""
        )
    listed = "".join(
        f"<dt>{name}</dt><dd>{escape(str(fact))}</dd>" for name, fact in facts.items() if fact
    )
    steps = "".join(
        f'<li><a href="#{name}">{sign(worst(records[name]))} {name}</a></li>'
        if name in records
        else f'<li class="quiet">{sign("to do")} {name}</li>'
        for name in dict.fromkeys(path(project) + [n for n in LATER if n in records])
    )
    return f"<header><h1>{escape(project.folder.name)}</h1><dl>{listed}</dl><nav><ol>{steps}</ol></nav></header>"


def write(project):
    """Draw out/notebook.html from out/steps/, out/metrics.jsonl and settings.toml."""
    records, metrics, settings = read_all(project)
    rows = [
        [f"<code>{name}</code>", f"<code>{escape(value)}</code>", escape(why)]
        for name, value, why in settings
    ]
    page = f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{escape(project.folder.name)}: notebook</title>'
    page += f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE.read_text()}</style>'
    page += summary(project, records, metrics, settings)
    page += (
        "<section id=settings><h2>What was chosen</h2>"
        + table(["setting", "value", "why"], rows, "settings")
        + "</section>"
    )
    page += "".join(section(name, record, metrics) for name, record in records.items())
    page += (
        "<footer>Drawn by handrail after every step, from out/ and settings.toml.</footer></html>"
    )
    (project.out / "notebook.html").write_text(page, encoding="utf-8", errors="replace")
