"""The model card: a page for people, and lines that the hub's own library writes and checks."""

import re
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from handrail.data.text_files import locate
from handrail.project.project import Stop, read_settings, stop
from handrail.project.words import fill
from handrail.steps.words import parts

# texts, paths and names of people; and what stands in the card anyway
PRIVATE = set(
    "handrail prompt data column answers pairs base model me source license language".split()
)
END = "What is above this line is written again by `handrail share`; below it, it is yours."
GUESSERS = {
    "model": "this model",
    "floor": "the lowest possible loss",
    "bigram": "a guesser that sees one token back",
    "unigram": "a guesser that knows how common each token is",
    "uniform": "a guesser that knows nothing",
}


def known(name, typed):
    """Return a licence or a language as the hub writes it; raise Stop if it knows none such."""
    value, licences = typed.strip().lower(), parts("share")["Licences"].split()
    if name == "license" and value not in licences:
        near = ", ".join(get_close_matches(value, licences, 4, 0.4)) or None
        raise stop("unknown licence", typed=typed, near=near)
    if name == "language" and not re.fullmatch("[a-z]{2,3}", value):
        raise stop("unknown language", typed=typed)
    return value


def asked(screen, name):
    """Ask for a licence or a language, again while what is typed is none; "" for an Enter."""
    [question] = fill(parts("share")[f"Which {name}"], {})
    while typed := screen.ask(question):
        try:
            return known(name, typed)
        except Stop as problem:
            screen.message(problem)
    return ""


def choose(project, screen, file):
    """See to it that licence and language are names of the hub; ask a person for missing ones.

    `file` is the card that is there: what its owner wrote into it is chosen.
    """
    written = front_matter(file)
    for name in ("license", "language"):
        value = project.settings.get(name) or written.get(name)
        if value is None and name == "language" and project.settings.get("world"):
            value = "en"
        elif value is None:
            value = asked(screen, name)
        if value and known(name, value) != project.settings.get(name):
            project.decide(name, known(name, value), "for the model card")


def front_matter(file):
    """Return the lines for the hub's search of a card, as a dict; none of what cannot be read."""
    from huggingface_hub import ModelCard

    with suppress(OSError, ValueError):
        found = ModelCard.load(file).data.to_dict()
        return {name: value for name, value in found.items() if isinstance(value, str)}
    return {}


def from_hub(project):
    """Return the names of the data sets of the hub that the model learned from."""
    found = []
    for name in ("data", "answers", "pairs"):
        with suppress(Stop):  # a file that is gone
            source = project.settings.get(name)
            if source and locate(project, source) is None:
                found.append(source.split(":")[0])
    return found


def own_files(project):
    """Return the settings that name the owner's files, not handrail's: data, answers, pairs."""
    made = ["data"] if project.settings.get("world") else []
    named = {name: project.settings.get(name) for name in ("data", "answers", "pairs")}
    there = [name for name, source in named.items() if source and source != "village"]
    return [n for n in there if n not in made and named[n].split(":")[0] not in from_hub(project)]


def page(project, template, **values):
    """Return a page of steps/*.jinja, filled in."""
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True)
    chosen = read_settings(project.folder / "settings.toml")
    values["chosen"] = [row for row in chosen if row[2] and PRIVATE.isdisjoint(row[0].split("."))]
    return pages.get_template(f"{template}.jinja").render(guessers=GUESSERS, end=END, **values)


def card(project, parameters, exam, code):
    """Return the model card: front matter for the hub, then what a stranger needs to know."""
    from huggingface_hub import ModelCardData

    chosen, hub = project.settings, from_hub(project)
    base = chosen.get("base", "")
    away = Path(base).is_absolute()  # a path says something about its owner's machine
    # the name of a file can be that of a person
    kinds = {"data": "texts", "answers": "questions and answers", "pairs": "pairs of answers"}
    given = " and ".join(kinds[name] for name in own_files(project))
    parts = ["a built-in world of small stories (handrail's village)"] * bool(chosen.get("world"))
    parts += [*hub, *([f"{given} of its owner's choice"] if given else [])]
    source = ", then ".join(parts)
    data = ModelCardData(
        license=chosen.get("license"),
        language=chosen.get("language"),
        library_name="transformers",
        pipeline_tag="text-generation",
        base_model=None if away else base or None,
        datasets=hub or None,
        tags=["handrail"] + ["gguf"] * any((project.out / "gguf").glob("*.gguf")),
    )
    about = {"name": project.folder.name, "base": Path(base).name if away else base}
    about |= {"source": source, "parameters": parameters, "exam": exam, "code": code}
    return page(project, "card.md", data=data, **about)


def checked(text):
    """Return (what the hub's checks say about a card, a verdict)."""
    from huggingface_hub import ModelCard

    try:
        found = ModelCard(text)
        found.validate()
    except ValueError as error:
        return " ".join(str(error).split())[:200], "fail"
    except Exception as error:  # of the network, in whatever words
        return f"fields right; hub not reached ({type(error).__name__})", "warn"
    return "valid", "pass"
