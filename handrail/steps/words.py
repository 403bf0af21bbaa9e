"""What a step says. Its words are in NAME.md next to NAME.py, so that a lesson is written as prose.

A part begins at a heading. `{name}` is replaced by a value of the step, `{command:lr}` by the
handrail command as it is typed for this project, `{python:chat.py}` by that of a script. A
paragraph or list item that names a value which is None, or unknown, is left out.
"""

import re
from functools import cache
from pathlib import Path
from string import Formatter

from handrail.screen import Check

HEADING = re.compile(r"^#{1,3} (.+)\n", re.M)


@cache
def parts(name):
    """Return {heading: text} of a step's NAME.md; the title is under "Title"."""
    _, title, first, *rest = HEADING.split((Path(__file__).parent / f"{name}.md").read_text())
    return {"Title": title, "": first} | dict(zip(rest[::2], rest[1::2], strict=True))


class Typed:
    """In a text, `{command:lr}` and `{python:chat.py}`: what to type for this project."""

    def __init__(self, type_it):
        self.type_it = type_it

    def __format__(self, words):
        return f"`{self.type_it(words)}`"


class Words:
    """The words of one step for one project."""

    def __init__(self, project, name):
        self.project, self.parts = project, parts(name)
        self.known = {"command": Typed(project.command), "python": Typed(project.script)}

    def __contains__(self, part):
        return part in self.parts

    def say(self, part, /, **values):
        """Return the paragraphs and list items of a part as a list of lines, values filled in."""
        values = self.known | values
        lines = []
        for text in re.split(r"\n\s*\n|\n(?=- )", self.parts.get(part, "").strip()):
            names = {
                re.split(r"[.[]", field)[0] for _, field, *_ in Formatter().parse(text) if field
            }
            if text and not any(values.get(name) is None for name in names):
                lines.append(" ".join(text.removeprefix("- ").format(**values).split()))
        return lines

    def check(self, name, measured, good, otherwise="fail", /, **values):
        """Return the Check of that heading: what is expected, then what it means if it is not so.

        A last paragraph "Try next: ..." says what to do about it.
        """
        expected, *told = self.say(name, **values)
        advice = [line for line in told if line.startswith("Try next: ")]
        meaning = " ".join(line for line in told if line not in advice)
        verdict = "pass" if good else otherwise
        advice = " ".join(advice).removeprefix("Try next: ")
        return Check(name.format(**values), expected, str(measured), verdict, meaning, advice)

    def code(self, file):
        """Return [(fragment of a line, note)] of the lines of a file that matter."""
        found = re.findall(r"^`(.+)`\n((?:.+\n?)*)", self.parts.get(f"Code: {file}", ""), re.M)
        return [(fragment, " ".join(note.split())) for fragment, note in found]
