"""Should you train at all? One screen before the first step with a person's own data."""

from contextlib import suppress
from pathlib import Path

from handrail.data.chats import Chats, read_chats
from handrail.data.text_files import ALL_KINDS, is_read, local_files
from handrail.project.plan import BY_HEART, SHOWN, passes, tokens_needed
from handrail.project.project import Stop
from handrail.steps.data import SMALL, is_world, size
from handrail.steps.words import Words, shown_if

PROMPT = 100_000  # bytes, some 25,000 tokens: most large models read more at once
QUICK = 20_000_000  # bytes of questions and answers that are counted in about a second


def page(project):
    """Return the screen, {heading: lines}; the last part says what this project's data points to.

    It is left out where there are no data of a person's own.
    """
    words, settings = Words(project, "should_i_train"), project.settings
    heads = ["What each way is good for", "How to know that it is better"]
    facts, source = {}, settings.get("data") or settings.get("answers")
    if source and not (settings.get("data") and is_world(project)):
        place = project.folder / Path(source).expanduser()
        kinds = [*ALL_KINDS, *settings.get("kinds", [])]
        files = local_files(place) if place.exists() else []
        held = sum(file.stat().st_size for file in files if file == place or is_read(file, kinds))
        facts = {"size": size(held) if held else None, "source": source}
        facts |= shown_if(unknown=not held, little=0 < held < PROMPT)
        about = about_texts if settings.get("data") else about_answers
        facts |= about(project, place, held)
        heads.append("Your texts" if settings.get("data") else "Your questions and answers")
    return {head: words.say(head, **facts) for head in heads}


def about_texts(project, place, held):
    """Return what the words about texts name, of which there are `held` bytes."""
    base, needed = project.settings.get("base"), 4 * tokens_needed(project)
    new = held and not base
    found = {"base": base, "needed": size(needed), "small": SMALL}
    return found | shown_if(short=new and held < needed, enough=new and held >= needed)


def about_answers(project, place, held):
    """Return what the words about questions and answers name; a large file is not counted yet."""
    chats = Chats()
    with suppress(Stop):  # the step says what is wrong
        if 0 < held < QUICK:
            chats = read_chats(place, place.name, project.settings.get("me"))
    rows = len(chats.rows)
    shown = rows and passes(rows, *SHOWN)
    single = rows and not chats.pairs
    found = {"rows": rows or None, "passes": shown} | shown_if(pairs=chats.pairs, unknown=not rows)
    heart = shown >= BY_HEART
    return found | shown_if(heart=single and heart, many=single and not heart)
