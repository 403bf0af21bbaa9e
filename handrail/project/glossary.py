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


def looked_up(asked, known):
    """Yield (asked words, the key that is meant or None); neighbours may be one entry."""
    while asked:
        ends = range(len(asked), 0, -1)
        end = next((end for end in ends if matching(" ".join(asked[:end]), known)), 1)
        phrase = " ".join(asked[:end])
        yield phrase, matching(phrase, known)
        asked = asked[end:]


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
    entries, known = words(), {}
    if not asked.strip():
        return filled(["The words: " + "; ".join(entries)])
    for names, meaning in (entries | dict(faults)).items():
        known |= {key(name): (names, meaning) for name in names.split(", ")}
    texts, problems = [], []
    for phrase, match in looked_up(asked.replace(",", " ").split(), known):
        if match:
            texts += ": ".join(known[match]).split("\n\n")
        else:
            problems.append(unknown(phrase, known, commands))
    if problems:
        raise Stop(filled([*texts, " ".join([*problems, "All words: handrail explain"])]))
    return filled(texts)


def filled(texts):
    """Return paragraphs, wrapped to the terminal."""
    wide = min(96, shutil.get_terminal_size().columns)
    return "\n\n".join(textwrap.fill(text, wide, break_on_hyphens=False) for text in texts)
