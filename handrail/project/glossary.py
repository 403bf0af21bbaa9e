"""The words of the field in plain English, from glossary.md, for `handrail explain WORD`."""

import re
import shutil
import textwrap
from difflib import get_close_matches
from pathlib import Path

from handrail.project.project import Stop

ENTRY = re.compile(r"^\*\*(.+?)\*\*: (.+)$", re.MULTILINE)  # **word, another name**: what it means


def key(word):
    """Return a word as it is looked up: "Fine-Tuning" is "finetuning", "optimiser" "optimizer"."""
    letters = re.sub(r"\W", "", word.lower())
    return re.sub("is(?=e|ing|ation)", "iz", letters)


def words():
    """Return {names: what they mean}, names as "parameter, weight"."""
    return dict(ENTRY.findall(Path(__file__).with_suffix(".md").read_text(encoding="utf-8")))


def matching(asked, known):
    """Return the key of `known` that is meant, in the singular or the plural, or None."""
    asked = key(asked)
    forms = (asked, asked + "s", asked.removesuffix("s"), asked.removesuffix("es"))
    return next((form for form in forms if form in known), None)


def phrases(asked, known):
    """Return the asked words, neighbours joined where they are one entry ("learning", "rate")."""
    found = []
    while asked:
        ends = range(len(asked), 0, -1)
        end = next((end for end in ends if matching(" ".join(asked[:end]), known)), 1)
        found.append(" ".join(asked[:end]))
        asked = asked[end:]
    return found


def unknown(word, known, commands):
    """Return what to say about a word that is not in the list."""
    if word in commands:
        return f"{word!r} is a command: handrail {word} --help."
    near = dict.fromkeys(known[near][0] for near in get_close_matches(key(word), known, 3, 0.8))
    similar = f" Did you mean: {'; '.join(near)}?" if near else ""
    return f"{word!r} is not in the list.{similar}"


def explain(asked="", commands=(), faults=()):
    """Return what the asked words mean, or the list of all words; raise Stop if one is unknown.

    `faults` are more words, {name: what it is}, which are not in the list.
    """
    wide = min(96, shutil.get_terminal_size().columns)
    entries = words()
    if not asked.strip():
        return textwrap.fill("The words: " + "; ".join(entries), wide)
    known = {}
    for names, meaning in (entries | dict(faults)).items():
        known |= {key(name): (names, meaning) for name in names.split(", ")}
    texts, problems = [], ""
    for phrase in phrases(asked.replace(",", " ").split(), known):
        if match := matching(phrase, known):
            texts.append(": ".join(known[match]))
        else:
            problems += unknown(phrase, known, commands) + " "
    if problems:
        texts.append(problems + "All words: handrail explain")
    lines = "\n\n".join(texts).split("\n\n")
    shown = "\n\n".join(textwrap.fill(line, wide, break_on_hyphens=False) for line in lines)
    if problems:
        raise Stop(shown)
    return shown
