"""What the learner sees: one look for every step, on a terminal and off it."""

import re
import sys
import textwrap
from dataclasses import dataclass, field

from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

SIGNS = {"pass": "[green]✓[/]", "warn": "[yellow]![/]", "fail": "[red]✗[/]"}


@dataclass
class Check:
    """One number beside what was expected of it. `meaning` and `advice` are shown when it did not pass."""

    name: str
    expected: str
    measured: str
    verdict: str  # pass, warn or fail
    meaning: str = ""
    advice: str = ""


@dataclass
class Outcome:
    """What a step found: its checks, what they tell in a sentence or two, and what else the notebook shows."""

    checks: list
    tells: str
    samples: list = field(default_factory=list)  # texts worth reading
    plots: dict = field(default_factory=dict)  # caption: {"kind": ..., data}; drawn by notebook.py


def check(name, expected, measured, good, meaning="", advice="", otherwise="fail"):
    """Return a Check that passes if `good`, and is `otherwise` if not."""
    return Check(name, str(expected), str(measured), "pass" if good else otherwise, meaning, advice)


class Screen:
    """Prints, and asks only when a person is there (`talks`)."""

    def __init__(self, yes=False):
        self.console = Console(highlight=False, width=None if sys.stdout.isatty() else 100)
        self.yes = yes
        self.talks = sys.stdin.isatty() and sys.stdout.isatty() and not yes

    def print(self, text=""):
        self.console.print(text, markup=False, soft_wrap=False)

    def title(self, text, place):
        self.console.rule(f"[bold]{text}[/] · {place}", align="left", style="cyan")

    def say(self, head, text):
        """Print a headed paragraph or list."""
        wide = min(self.console.width, 96) - 2
        lines = (
            text
            if isinstance(text, list)
            else [" ".join(part.split()) for part in text.split("\n\n")]
        )
        lines = [
            textwrap.fill(line, wide, break_on_hyphens=False, break_long_words=False)
            for line in lines
        ]
        self.console.print(f"[bold cyan]{head}[/]")
        body = textwrap.indent(("\n" if isinstance(text, list) else "\n\n").join(lines), "  ")
        self.console.print(
            re.sub(r"\*(\w[\w -]*)\*(?![\w*])", r"[italic]\1[/]", escape(body)) + "\n"
        )

    def code(self, file):
        self.console.print(f"[bold cyan]{file.name}[/]")
        self.console.print(
            Syntax(file.read_text(), "python", background_color="default", word_wrap=True)
        )

    def tokens(self, pieces):
        """Print a row of (token, is it trained): what is trained bright, what is only read dim."""
        text = Text("  ")
        for piece, trained in pieces:
            text.append(piece, "green" if trained else "dim")
        self.console.print(
            text
            if self.console.is_terminal
            else Text("  " + "".join(f"[{p}]" if said else p for p, said in pieces))
        )
        self.print()

    def measured(self, checks):
        """Print each number beside what was expected, then what the ones that did not pass mean."""
        table = Table(
            box=None,
            padding=(0, 2, 0, 0),
            title="[bold cyan]Measured[/]",
            title_justify="left",
            title_style="",
        )
        for head in ("", "", "expected", "measured"):
            table.add_column(head, style="dim" if head == "expected" else None)
        for c in checks:
            table.add_row(SIGNS[c.verdict], c.name, c.expected, c.measured)
        self.console.print(table)
        self.print()
        for c in checks:
            if c.verdict != "pass":
                self.say(
                    f"{c.name}: {c.verdict}",
                    [t for t in (c.meaning, c.advice and f"Try next: {c.advice}") if t],
                )

    def ask(self, question, default=""):
        """Return a person's answer, or `default` when nobody is there."""
        if not self.talks:
            return default
        return self.console.input(f"[bold]{escape(question)}[/] ").strip() or default
