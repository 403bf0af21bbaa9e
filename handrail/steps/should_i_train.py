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
    """Return the screen, {heading: lines}; the last part says what this project's data point to.

    It is left out where there are no data of a person's own.
    """
    texts, source = project.settings.get("data"), project.settings.get("answers")
    heads, found = ["What each way is good for", "How to know that it is better"], {}
    if (texts or source) and not (texts and is_world(project)):
        heads.append("Your texts" if texts else "Your questions and answers")
        found = about(project, texts or source)
    words = Words(project, "should_i_train")
    return {head: words.say(head, **found) for head in heads}


def about(project, source):
    """Return what the words about texts, or about questions and answers, name."""
    place = project.folder / Path(source).expanduser()
    files = local_files(place) if place.exists() else []
    held = sum(f.stat().st_size for f in files if f == place or is_read(f, ALL_KINDS))
    found = {"source": source, "size": size(held) if held else None}
    found |= shown_if(unknown=not held, little=0 < held < PROMPT)
    if not project.settings.get("data"):
        return found | about_answers(project, place, held)
    base, needed = project.settings.get("base"), 4 * tokens_needed(project)
    new = held and not base
    found |= {"base": base, "needed": size(needed), "small": SMALL}
    return found | shown_if(short=new and held < needed, enough=new and held >= needed)


def about_answers(project, place, held):
    """Return what fits the questions and answers there; a large file is not counted yet."""
    chats = Chats()
    with suppress(Stop):  # the step says what is wrong
        if 0 < held < QUICK:
            chats = read_chats(place, place.name, project.settings.get("me"))
    rows = len(chats.rows)
    often = passes(rows, *SHOWN) if rows else 0
    fixed = project.settings.get("finetune", {})
    if rows and fixed.get("updates"):
        often = fixed["updates"] * fixed.get("batch", 8) / rows
    heart, single = often >= BY_HEART, rows and not chats.pairs
    found = {"rows": rows or None, "passes": often} | shown_if(unknown=not rows, pairs=chats.pairs)
    return found | shown_if(heart=single and heart, many=single and not heart)
