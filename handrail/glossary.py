"""The field's words in plain ones, for `handrail explain WORD`, from glossary.md."""

import re
import shutil
import textwrap
from difflib import get_close_matches
from pathlib import Path

from handrail.project import Stop

ENTRY = re.compile(r"^\*\*(.+?)\*\*: (.+)$", re.MULTILINE)  # **word, another name**: what it means


def plain(word):
    """Return a word as it is looked up: small letters, no hyphens."""
    return " ".join(word.lower().replace("-", " ").split())


def lessons():
    """Return the faults that the doctor names, by name."""
    from handrail.doctor.lesson import faults

    return faults()


def explain(word=""):
    """Return what a word means, or all words when none is given; raise Stop if it is not known."""
    wide = min(96, shutil.get_terminal_size().columns)
    entries = dict(ENTRY.findall(Path(__file__).with_suffix(".md").read_text()))
    words = {plain(name): names for names in entries for name in names.split(", ")}
    asked = plain(word)
    if not asked:
        return textwrap.fill("The words: " + "; ".join(entries), wide)
    for form in (asked, asked + "s", asked.removesuffix("s"), asked.removesuffix("es")):
        if form in words:
            names = words[form]
            return textwrap.fill(f"{names}: {entries[names]}", wide)
    if asked.replace(" ", "-") in (faults := lessons()):
        fault = faults[asked.replace(" ", "-")]
        parts = [
            f"{fault.name}: {fault.parts['What it is']}",
            f"In real life: {fault.parts['In real life']}",
            f"See it happen: handrail break {fault.name}",
        ]
        return "\n\n".join(textwrap.fill(part, wide, break_on_hyphens=False) for part in parts)
    near = [known for known in words if asked in known] + get_close_matches(asked, words, 4, 0.7)
    near = "; ".join(dict.fromkeys(words[known] for known in near))
    said = f"Similar words: {near}. " if near else ""
    raise Stop(f"{word!r} is not in the list. {said}All words: handrail explain")
