"""What the doctor says: one Finding a mistake, certain or only likely, each with how it is known and how to fix it."""

import textwrap
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

FOLLOWS = {  # a mistake, and what it brings with it: said once, by its cause
    "nothing-trained": {
        "nothing-learned",
        "non-finite",
        "no-gradient",
        "answer-truncated",
        "eos-masked",
        "rate-too-low",
    },
    "labels-shifted-twice": {"eos-masked", "eos-missing", "answer-truncated", "prompt-trained"},
    "labels-not-shifted": {"eos-masked", "eos-missing", "answer-truncated", "prompt-trained"},
    "padding-in-loss": {"eos-masked", "prompt-trained", "one-document-dominates"},
    "non-finite": {"nothing-learned", "rate-too-high", "weights-do-not-move"},
    "fp16-without-scaler": {"non-finite", "weights-do-not-move"},
    "gradients-not-zeroed": {"rate-too-high", "nothing-learned"},
    "weights-do-not-move": {
        "loss-never-changes",
        "nothing-learned",
        "rate-too-low",
        "no-gradient",
        "gradients-not-zeroed",
    },
    "scheduler-miscounted": {"nothing-learned", "rate-too-low", "weights-do-not-move"},
    "no-gradient": {"weights-do-not-move", "nothing-learned", "loss-never-changes"},
    "rate-too-high": {"nothing-learned"},
    "rate-too-low": {"nothing-learned"},
    "answer-truncated": {"eos-missing", "nothing-trained"},
    "time-left-misjudged": {"out-of-memory-late"},
    "prompt-trained": {"one-document-dominates"},
    "one-document-dominates": {"too-many-epochs", "copied-output"},
    "sorted-by-class": {"rate-too-high", "val-rises"},
    "clipped-while-scaled": {"rate-too-high", "rate-too-low"},
    "softmax-twice": {"nothing-learned", "rate-too-low"},
    "log-softmax-missing": {"rate-too-high", "nothing-learned"},
    "reward-without-spread": {"no-gradient", "rate-too-low"},
}
LEVELS = ("certain", "warning")
FAULTS = Path(__file__).parents[1] / "lessons" / "faults"
CATALOGUE = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8"))


@dataclass
class Finding:
    """One mistake. `name` is that of the lesson (`handrail break NAME`); `update` is when it was seen, 0 before the first."""

    name: str
    level: str  # certain, or warning: worth a look, may be meant
    message: str  # what is wrong, in one sentence
    evidence: str = ""  # tensor names, tokens, rows, figures
    causes: list = field(default_factory=list)  # the likeliest first
    advice: str = ""  # how to fix it
    update: int = 0

    def __post_init__(self):
        # until all words are in the catalogue
        self.causes = [cause if isinstance(cause, str) else cause[0] for cause in self.causes]

    def __str__(self):
        """Return it as a person reads it."""
        sign = {"certain": "✗", "warning": "!"}[self.level]
        lines = [
            f"{sign} {self.name} ({self.level}, "
            + (f"seen at update {self.update})" if self.update else "seen before the first update)")
        ]
        lines += wrap("", self.message)
        lines += wrap("How it is known: ", self.evidence)
        if self.causes:
            first, *others = self.causes
            lines += wrap("Most likely: ", first)
            for cause in others:
                lines += wrap("Not ruled out: ", cause)
        lines += wrap("Fix it: ", self.advice)
        if (FAULTS / f"{self.name}.patch").exists():
            lines += wrap("See it happen: ", f"handrail break {self.name}")
        return "\n".join(lines)


def finding(name, evidence="", update=0, level="", **values):
    """Return the Finding of this name, in the catalogue's words.

    "NAME/WAY" takes the words of the sub-table NAME.WAY where it has some, else those of NAME.
    `values` fill the {places} of the title; `level` replaces the catalogue's.
    """
    name, _, way = name.partition("/")
    words = CATALOGUE[name]
    words = words | words[way] if way else words
    level = level or words["level"]
    title, causes, fix = words["title"].format(**values), words["causes"], words["fix"]
    return Finding(name, level, title, evidence, causes, fix, update)


def wrap(head, text):
    """Return the lines of a paragraph, indented; none for no text."""
    return (
        textwrap.wrap(
            head + text, 96, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False
        )
        if text
        else []
    )


def in_order(findings):
    """Return findings as they matter: certain ones first, then by when they were seen."""
    return sorted(findings, key=lambda finding: (LEVELS.index(finding.level), finding.update))


def report(findings, updates=0, left_out=()):
    """Return what a person reads at the end: every finding, what was not looked at, or that all is well so far."""
    seen = f"after {updates:,} updates" if updates else "before the first update"
    if not findings:
        lines = [
            f"The doctor, {seen}: nothing found. That is no proof of health; it means that no check spoke."
        ]
    else:
        certain = sum(finding.level == "certain" for finding in findings)
        lines = [
            f"The doctor, {seen}: {certain} certain, {len(findings) - certain} to look at.",
            "",
        ]
        lines += [f"{finding}\n" for finding in in_order(findings)]
    return "\n".join([*lines, *(f"  Not looked at: {reason}" for reason in left_out)]).rstrip()
