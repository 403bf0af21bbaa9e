"""What the learner sees: one look for every step, on a terminal and without one."""

import re
import sys
import termios
import textwrap
import time
from dataclasses import dataclass, field

import plotext
from rich.console import Console
from rich.markup import escape
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from handrail.project.plots import series

STYLES = {"pass": "green", "warn": "yellow", "fail": "red"}
SIGNS = {"pass": "✓", "warn": "!", "fail": "✗"}
ASCII = {"pass": "ok", "warn": "!", "fail": "X"}
HEIGHT = 14  # lines of a picture
NARROW = 60  # columns: below this a picture becomes numbers
# an untrained model writes any byte, and some of them confuse a terminal
CONTROLS = dict.fromkeys([n for n in [*range(32), *range(127, 160)] if chr(n) not in "\n\t"], "·")
ITALIC = re.compile(r"(?<![\w*])\*(\w[\w -]*)\*(?![\w*])")
BOLD = re.compile(r"\*\*([^*]+)\*\*")
BLANK = "\u00a0"  # in place of a blank where a line must not break


@dataclass
class Check:
    """One number next to what was expected. `meaning` and `advice` are shown if it did not pass."""

    name: str
    expected: str
    measured: str
    verdict: str  # pass, warn or fail
    meaning: str = ""
    advice: str = ""


@dataclass
class Outcome:
    """What a step found. `values` are the numbers that its words name (steps/NAME.md)."""

    checks: list
    values: dict = field(default_factory=dict)
    samples: list = field(default_factory=list)  # texts worth reading
    plots: dict = field(default_factory=dict)  # caption: {"kind": ..., data}, as in plots.py


def check(name, expected, measured, good, meaning="", advice="", otherwise="fail"):
    """Return a Check that passes if `good`, and is `otherwise` if not."""
    return Check(name, str(expected), str(measured), "pass" if good else otherwise, meaning, advice)


def whole(found):
    """Return a match with blanks that do not break: a command can be copied in one piece."""
    return found[0].replace(" ", BLANK)


def draw(spec, shown, levels, width):
    """Draw a plot (as in plots.py) into plotext's figure; a level's name is on the axis."""
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.plot_size(width, HEIGHT)
    curve = spec["kind"] == "curve"
    early = "update (log scale: most happens early)"
    plotext.xlabel(early if curve else spec.get("xlabel", "update"))
    if spec["kind"] == "bars":
        plotext.bar([str(x) for x in spec["x"]], spec["y"])
        return
    for name, points in shown.items():
        x, y = zip(*points, strict=True)
        plotext.plot(x, y, label=name or None, marker="o" if name == "val" else "braille")
    if spec.get("logx") or curve:
        steps = [x for points in shown.values() for x, _ in points]
        powers = [10**n for n in range(10) if min(steps) <= 10**n <= max(steps)]
        ticks = spec.get("x") or powers
        plotext.xscale("log")
        plotext.xticks(ticks, [f"{x:,g}" for x in ticks])
    if spec.get("mark"):
        plotext.vline(spec["mark"])
    heights = [y for points in shown.values() for _, y in points]
    plotext.ylim(min([*heights, *levels.values()]), max([*heights, *levels.values()]))
    ends = {max(heights): ""} if levels else {max(heights): "", min(heights): ""}
    ticks = ends | {y: f"{name} " for name, y in levels.items()}
    for level in levels.values():
        plotext.hline(level)
    plotext.yticks(list(ticks), [f"{name}{y:.2f}" for y, name in ticks.items()])


class Screen:
    """Prints, and asks only if a person is there (`talks`)."""

    def __init__(self, yes=False):
        terminal = sys.stdout.isatty()
        self.console = Console(highlight=False, width=None if terminal else 100)
        self.yes, self.shown = yes, time.monotonic()
        self.talks = sys.stdin.isatty() and terminal and not yes
        self.unicode = self.console.encoding.startswith("utf")
        if not self.unicode:
            sys.stdout.reconfigure(errors="replace")

    def sign(self, verdict):
        """Return the sign of a verdict."""
        return (SIGNS if self.unicode else ASCII)[verdict]

    @property
    def width(self):
        return min(self.console.width, 96)

    def print(self, text=""):
        self.console.print(text, markup=False, soft_wrap=False)

    def progress(self, text):
        """Print how far a slow step is, every ten seconds at most."""
        if time.monotonic() - self.shown > 10:
            self.shown = time.monotonic()
            self.print(f"  {text}")

    def title(self, text, place):
        self.shown = time.monotonic()
        self.console.rule(f"[bold]{text}[/] · {place}", align="left", style="cyan")

    def fill(self, text, indent="  ", first=None):
        """Return a text wrapped to the screen; a command in `backticks` stays in one line."""
        kept = re.sub(r"`[^`]+`", whole, " ".join(text.split()))
        lines = textwrap.fill(
            kept,
            self.width,
            initial_indent=indent if first is None else first,
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        )
        return lines.replace(BLANK, " ")

    def say(self, head, text, plain=False):
        """Print a headed paragraph (or paragraphs, parted by blank lines), or a list of lines.

        `plain`: it is a person's text, or a model's, and its stars stay.
        """
        listed = isinstance(text, list) and len(text) > 1
        parts = text if isinstance(text, list) else text.split("\n\n")
        lines = [self.fill(part, "    ", "  - ") if listed else self.fill(part) for part in parts]
        self.block(head, ("\n" if listed else "\n\n").join(lines), plain)

    def block(self, head, body, plain=False):
        """Print lines that are wrapped already under a head, *this* in italics, **this** bold."""
        self.head(head)
        body = escape(body.translate(CONTROLS))
        if not plain:
            body = BOLD.sub(r"[bold]\1[/]", ITALIC.sub(r"[italic]\1[/]", body))
        self.console.print(body + "\n", soft_wrap=True)

    def head(self, text):
        """Print a heading."""
        self.console.print(f"[bold cyan]{escape(text)}[/]")

    def code(self, file):
        """Print all of a file."""
        self.head(file.name)
        shown = Syntax(file.read_text(), "python", background_color="default", word_wrap=True)
        self.console.print(shown)

    def lines(self, text, notes):
        """Print the lines of a program that matter, each with its number and a note below it."""
        for number, line in enumerate(text.splitlines(), start=1):
            note = next((note for fragment, note in notes if fragment in line), None)
            if note is None:
                continue
            notes = [pair for pair in notes if pair[1] != note]  # the first line that has it
            code = line.strip()
            if len(code) > self.width - 8:
                code = code.partition("  # ")[0]
            for part in textwrap.wrap(code, self.width - 8, subsequent_indent="    "):
                shown = Syntax(part, "python", background_color="default").highlight(part)
                shown.rstrip()
                self.console.print(Text(f"  {number:4}  ", "dim") + shown, soft_wrap=True)
            self.console.print(Text(self.fill(note, " " * 10)), soft_wrap=True)
        self.print()

    def tokens(self, pieces):
        """Print a row of (token, is it trained): what is trained bright, what is only read dim."""
        text = Text("  ")
        for piece, trained in pieces:
            if trained and not self.console.is_terminal:
                piece = f"[{piece}]"
            text.append(piece, "green" if trained else "dim")
        self.console.print(text)
        self.print()

    def measured(self, checks):
        """Print each number next to what was expected, then what those mean that did not pass."""
        self.head("Measured")
        table = Table(box=None, padding=(0, 2, 0, 0))
        for head in ("", "", "expected", "measured"):
            table.add_column(head, style="dim" if head == "expected" else None)
        for c in checks:
            row = [escape(part) for part in (c.name, c.expected, c.measured)]
            table.add_row(f"[{STYLES[c.verdict]}]{self.sign(c.verdict)}[/]", *row)
        self.console.print(table)
        self.print()
        for c in checks:
            if c.verdict != "pass":
                lines = [c.meaning, f"Try next: {c.advice}" if c.advice else ""]
                told = "\n".join(self.fill(line) for line in lines if line)
                self.block(f"{c.name}: {c.verdict}", told)

    def picture(self, caption, spec, metrics):
        """Draw a plot (a dict as in plots.py) with characters, in the width of the screen."""
        shown = series(spec, metrics)
        levels = spec.get("lines") or {}
        if not shown:
            return
        self.head(caption)
        if self.console.width < NARROW or not self.unicode:
            self.numbers(spec, shown, levels)
            return
        draw(spec, shown, levels, min(self.width, 80) - 2)
        for line in plotext.uncolorize(plotext.build()).splitlines():
            self.print("  " + line.rstrip())
        self.print()

    def numbers(self, spec, shown, levels):
        """Print a plot as numbers, for a terminal that cannot show it."""
        for name, points in shown.items():
            some = points[:: max(1, len(points) // 8)]
            if spec["kind"] == "bars":
                some = [(spec["x"][x], y) for x, y in points]
            pairs = "  ".join(f"{x}: {y:.4g}" for x, y in some)
            self.print(self.fill(f"{name} {pairs}"))
        self.print(self.fill("  ".join(f"{name} {level:.3f}" for name, level in levels.items())))
        self.print()

    def side_by_side(self, texts):
        """Print two texts next to each other, under their names."""
        table = Table(box=None, padding=(0, 2), width=self.width)
        for name in texts:
            table.add_column(name, style="italic", ratio=1)
        table.add_row(*(escape(" ".join(text.split())) for text in texts.values()))
        self.console.print(table)
        self.print()

    def message(self, problem):
        """Print what is in the way, wrapped; commands (lines that are indented) as they are."""
        self.print()
        for line in str(problem).splitlines():
            self.console.print(line, markup=False, soft_wrap=line.startswith(" "))
        self.print()

    def key(self, question, keys):
        """Return one of the keys, as a person typed it; "" for Enter, or if nobody is there."""
        while (typed := self.ask(question).lower()) not in ("", *keys):
            self.print(f"  {typed!r} is not one of these keys.")
        return typed

    def ask(self, question, default=""):
        """Return a person's answer, or `default` if nobody is there.

        Keys that were pressed before the question are dropped: they were not meant for it.
        """
        if not self.talks:
            return default
        termios.tcflush(sys.stdin, termios.TCIFLUSH)
        return self.console.input(f"[bold]{escape(question)}[/] ").strip() or default
