"""What a step says. Its words are in NAME.md next to NAME.py (see handrail/project/words.py).

`{command:lr}` is replaced by the handrail command as it is typed for this project,
`{python:chat.py}` by that of a script.
"""

import re
from pathlib import Path

from handrail.project import words
from handrail.project.screen import Check


def parts(name):
    """Return {heading: text} of a step's NAME.md; the title is under "Title"."""
    return words.parts(Path(__file__).parent / f"{name}.md")


def shown_if(**conditions):
    """Return {name: "" or None}: a paragraph that names one is shown if its condition holds."""
    return {name: "" if holds else None for name, holds in conditions.items()}


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
        return words.fill(self.parts.get(part, ""), self.known | values)

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
