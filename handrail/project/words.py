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
    _, title, first, *rest = HEADING.split(file.read_text())
    return {"Title": title, "": first} | dict(zip(rest[::2], rest[1::2], strict=True))


def fill(text, values):
    """Return the paragraphs and list items of a text as a list of lines, values filled in."""
    lines = []
    for part in re.split(r"\n\s*\n|\n(?=- )", text.strip()):
        names = {re.split(r"[.[]", field)[0] for _, field, *_ in Formatter().parse(part) if field}
        if part and not any(values.get(name) is None for name in names):
            lines.append(" ".join(part.removeprefix("- ").format(**values).split()))
    return lines
