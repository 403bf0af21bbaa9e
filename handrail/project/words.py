"""Words in Markdown, so that what a person reads is written as prose.

A part begins at a heading. `{name}` is replaced by a value. A paragraph or list item that names a
value which is None, or unknown, is left out.
"""

import re
from functools import cache
from string import Formatter

HEADING = re.compile(r"^#{1,3} (.+)\n", re.M)


@cache
def parts(file):
    """Return {heading: text} of a Markdown file; the title is under "Title"."""
    _, title, first, *rest = HEADING.split(file.read_text(encoding="utf-8"))
    return {"Title": title, "": first} | dict(zip(rest[::2], rest[1::2], strict=True))


def names_in(text):
    """Return the names of the values that a text names, also inside another: {python:{script}}."""
    found = set()
    for _, field, inner, _ in Formatter().parse(text):
        if field:
            found |= {re.split(r"[.[]", field)[0], *names_in(inner)}
    return found


def fill(text, values):
    """Return the paragraphs and list items of a text as a list of lines, values filled in."""
    lines = []
    for part in re.split(r"\n\s*\n|\n(?=- )", text.strip()):
        if part and not any(values.get(name) is None for name in names_in(part)):
            lines.append(" ".join(part.removeprefix("- ").format(**values).split()))
    return lines


def told(file, part, /, **values):
    """Return a part of a Markdown file as one text: a line per paragraph, values filled in.

    An indented paragraph (a command, an example) stays as it is.
    """
    lines = []
    for found in re.split(r"\n\s*?\n", parts(file)[part].strip("\n")):
        text = found if found.startswith("    ") else " ".join(found.split())
        if not any(values.get(name, "") is None for name in names_in(text)):
            lines.append(text.format(**values))
    return "\n".join(lines)
