"""What the doctor says: one Finding per mistake, with how it is known and how to fix it.

The words are in catalogue.toml.
"""

import json
import re
import shutil
import textwrap
import tomllib
from dataclasses import asdict, dataclass, field
from pathlib import Path

LEVELS = ("certain", "warning")
SIGNS = {"certain": "✗", "warning": "!"}
VERDICTS = {"certain": "fail", "warning": "warn"}
CATALOGUE = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8"))


class Refused(Exception):
    """What was typed cannot be done; the text says why and how to fix it."""


@dataclass
class Finding:
    """One mistake; `update` is when it was seen, 0 before the first."""

    name: str
    level: str  # certain, or warning: worth a look, it may be intended
    message: str  # what is wrong, in one sentence
    evidence: str = ""  # tensor names, tokens, rows, figures
    causes: list = field(default_factory=list)  # the likeliest first
    advice: str = ""  # how to fix it
    update: int = 0

    def __str__(self):
        """Return it as a person reads it."""
        when = f"at update {self.update}" if self.update else "before the first update"
        lines = [f"{SIGNS[self.level]} {self.name} ({self.level}, seen {when})"]
        lines += wrap("", self.message)
        lines += wrap("How it is known: ", self.evidence)
        for number, cause in enumerate(self.causes):
            lines += wrap("Not ruled out: " if number else "Most likely: ", cause)
        lines += wrap("Fix it: ", self.advice)
        if CATALOGUE.get(self.name, {}).get("lesson"):
            lines += wrap("See it happen: ", f"handrail break {self.name}")
        return "\n".join(lines)


def finding(name, evidence="", update=0, level="", **values):
    """Return the Finding of this name, in the catalogue's words.

    "NAME/WAY" takes the words of the sub-table NAME.WAY where it has some, else those of NAME.
    `values` fill the {places} of the words; `level` replaces the catalogue's.
    """
    name, _, way = name.partition("/")
    words = CATALOGUE[name]
    words = words | words[way] if way else words
    causes = [cause.format(**values) for cause in words["causes"]]
    title, fix = (words[part].format(**values) for part in ("title", "fix"))
    return Finding(name, level or words["level"], title, evidence, causes, fix, update)


def follows(name, cause):
    """Return True if a finding follows from another one, so that it need not be said as well."""
    return name in CATALOGUE.get(cause, {}).get("explains", ())


def wrap(head, text, most=96):
    """Return the lines of a paragraph, indented; none for no text."""
    if not text:
        return []
    width = min(most, shutil.get_terminal_size((most, 24)).columns)
    indented = {"initial_indent": "  ", "subsequent_indent": "    "}
    return textwrap.wrap(head + text, width, break_on_hyphens=False, **indented)


def in_order(findings):
    """Return findings as they matter: certain ones first, then by when they were seen."""
    return sorted(findings, key=lambda found: (LEVELS.index(found.level), found.update))


def report(findings, updates=0, left_out=(), seen=""):
    """Return what a person reads at the end: every finding, and what was not looked at."""
    seen = seen or (f"after {updates:,} updates" if updates else "before the first update")
    if findings:
        certain = sum(found.level == "certain" for found in findings)
        worth = len(findings) - certain
        lines = [f"The doctor, {seen}: {certain} certain, {worth} to look at.", ""]
        lines += [f"{found}\n" for found in in_order(findings)]
    else:
        lines = [
            f"The doctor, {seen}: nothing found. "
            "That is no proof of health; it means that no check spoke."
        ]
    return "\n".join([*lines, *(f"  Not looked at: {reason}" for reason in left_out)]).rstrip()


def as_json(findings):
    """Return findings as one JSON object, each as a check that failed or warns."""
    checks = []
    for found in in_order(findings):
        said = asdict(found)
        measured, verdict = said.pop("evidence"), VERDICTS[found.level]
        checks.append(said | {"expected": "not there", "measured": measured, "verdict": verdict})
    return json.dumps({"checks": checks}, ensure_ascii=False, indent=2)


def listing():
    """Return the catalogue as a person reads it, 80 columns wide."""
    lines = ["What the doctor can find. ✗ certain, ! worth a look (it may be intended).", ""]
    for name, words in CATALOGUE.items():
        lines.append(name)
        ways = [words, *(words | way for way in words.values() if isinstance(way, dict))]
        for title, level in {said["title"]: said["level"] for said in ways}.items():
            lines += wrap(f"{SIGNS[level]} ", without_places(title), 80)
        lines += wrap("Most likely: ", without_places(words["causes"][0]), 80)
        lines += wrap("Fix it: ", without_places(words["fix"]), 80)
        lines.append("")
    return "\n".join(lines).rstrip()


def without_places(text):
    """Return words of the catalogue with "…" where figures go."""
    return re.sub(r"\{[^}]*\}", "…", text)
