"""The field's words in plain ones, for `handrail explain WORD`; they stand in glossary.md."""

import re
import textwrap
from difflib import get_close_matches
from pathlib import Path

ENTRY = re.compile(r"^\*\*(.+?)\*\*: (.+)$", re.MULTILINE)  # **word, another name**: what it means


def plain(word):
    """Return a word as it is looked up: small letters, no hyphens."""
    return " ".join(word.lower().replace("-", " ").split())


def lessons():
    """Return the faults that the doctor names, by name."""
    from handrail.doctor.lesson import faults

    return faults()


def explain(word=""):
    """Return what a word means; near words when it is not known, all words when none is given."""
    entries = {
        names: meaning
        for names, meaning in ENTRY.findall(Path(__file__).with_suffix(".md").read_text())
    }
    words = {plain(name): names for names in entries for name in names.split(", ")}
    asked = plain(word)
    if not asked:
        return textwrap.fill("The words: " + "; ".join(entries), 96)
    for form in (asked, asked + "s", asked.removesuffix("s"), asked.removesuffix("es")):
        if form in words:
            names = words[form]
            return textwrap.fill(f"{names}: {entries[names]}", 96)
    if asked.replace(" ", "-") in (faults := lessons()):
        fault = faults[asked.replace(" ", "-")]
        parts = [
            f"{fault.name}: {fault.parts['What it is']}",
            f"In real life: {fault.parts['In real life']}",
            f"See it happen: handrail break {fault.name}",
        ]
        return "\n\n".join(textwrap.fill(part, 96, break_on_hyphens=False) for part in parts)
    near = [known for known in words if asked in known] + get_close_matches(asked, words, 4)
    near = "; ".join(dict.fromkeys(words[known] for known in near))
    return f'"{word}" is not in the list. ' + (
        f"Near it: {near}" if near else "`handrail explain` shows all words."
    )
