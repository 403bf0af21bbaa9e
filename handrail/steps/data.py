"""Data: look before you train."""

import json
import random
import shlex
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from handrail.data import text_files
from handrail.data.checks import SAMPLE, count, near_duplicates
from handrail.data.text_files import problem, some
from handrail.data.village import stories
from handrail.project.plan import VILLAGE, bytes_per_token, check_size, plan, tokens_needed
from handrail.project.pretrained import opened
from handrail.project.project import Stop
from handrail.project.screen import Outcome
from handrail.steps.words import Words, shown_if

FILES = ["data.py"]
USES = ["data", "source", "column", "kinds", "base", "size"]
LEAVES = []
COPIES = ("data", "data-clean")  # folders of a project for texts that had to be made clean

N_STORIES = 100_000
SMALL = "HuggingFaceTB/SmolLM2-135M"  # a small open model to continue from
SHORT = 100  # characters: a line of a list, on average; those of prose have several sentences
LEAST = 512  # tokens: below this there are not even a few rows of text


# --- expect ---


def expect(project):
    base, world = project.settings.get("base"), is_world(project)
    needed = size(4 * tokens_needed(project))
    reads = VILLAGE["updates"] * VILLAGE["batch"] * VILLAGE["context"]
    found = {"needed": needed} if world else {}
    if not world and not base:
        found["least"] = needed
    return found | {"reads": f"{reads:,}"} | shown_if(world=world)


# --- the source: what is there, can it be read, which column is the text ---


def write_village(project):
    """Write the built-in world into the project, as an ordinary data set."""
    file = project.folder / "village.jsonl"
    if not file.exists():
        text_files.write_rows(islice(stories(0), N_STORIES), file)
    project.decide("data", file.name, "the built-in world, written here as an ordinary data set")
    why = "its stories can be checked: grammar, answers and the lowest possible loss are known"
    project.decide("world", "village", why)


def is_world(project):
    """Return True if the data is meant to be the built-in world."""
    settings = project.settings
    written = settings["data"] == "village.jsonl" and settings.get("world")
    return bool(settings["data"] == "village" or written)


def choose_world(project):
    """Write the village if it is meant; forget it if the data is another now."""
    if is_world(project):
        write_village(project)
    elif project.settings.get("world"):
        project.decide("world", "", "texts of your own")


def origin(project):
    """Return the source as its owner named it, where data.py reads a clean copy of it."""
    settings = project.settings
    original = settings.get("source")
    copied = settings["data"] in COPIES and original and (project.folder / original).exists()
    return original if copied else settings["data"]


def survey(project, screen, program):
    """Return (what is in the source, the column of its text), and see to it that data.py can read
    it; raise Stop for what cannot be read.
    """
    source = origin(project)
    path = text_files.locate(project, source)
    if path is None:
        screen.print(f"  Asking the hub for {source} ...")
        seen = text_files.survey_hub(source, program.data.rows(source, program.values.kinds))
        return seen, choose_column(project, screen, seen)
    with TemporaryDirectory(dir=project.out) as folder:
        seen = survey_local(project, screen, path, Path(folder))
        column = choose_column(project, screen, seen)
        if not is_clean(project, program.data, seen, column):
            copy_clean(project, screen, source, seen, column)
        elif source not in COPIES:  # else it is the copy, and the source is gone
            project.decide("source", None)
            project.decide("data", source, "where the texts come from")
    return seen, column


def survey_local(project, screen, path, folder):
    """Return what is in a file or folder; on a terminal, files of another ending may be added."""
    settings = project.settings
    kinds = settings.get("kinds") or settings.get("source_kinds") or text_files.KINDS
    seen = text_files.survey_files(path, kinds, folder)
    if not seen.read and not seen.problems:
        raise text_files.no_files(path)
    files = f"{seen.files} file{'s' * (seen.files != 1)}"
    screen.print(f"  {files}, {size(seen.bytes)}.{passed_over(seen)}")
    text_files.raise_problems(seen.problems)
    ending = meant_too(screen, path, seen)
    if ending is None:
        return seen
    project.decide("kinds", [*kinds, ending], f"most of the folder is {ending}, and plain text")
    return survey_local(project, screen, path, folder / "again")


def is_clean(project, reader, seen, column):
    """Return True if the project's data.py (`reader`) can read the source where it is."""
    kinds = project.load("data").values.kinds
    read = [file.path for file in seen.read]
    if any(seen.read.values()) or column in seen.derived:
        return False
    if read != reader.files(seen.path, kinds):  # files of some kind hold no text
        kinds = [kind for kind in kinds if kind in {file.suffix for file in read}]
        if read != reader.files(seen.path, kinds):
            return False
        project.decide("kinds", kinds, "files of other kinds in the folder hold no text")
    return True


def copy_clean(project, screen, source, seen, column):
    """Write the texts of a source, clean, into a folder of the project, and say what was done."""
    copies = [name for name in COPIES if (project.folder / name).resolve() != seen.path]
    target = project.folder / copies[0]
    number = text_files.convert(seen, column, target)
    if seen.tables == seen.files:
        seen.filled[column], seen.rows = number, max(number, seen.rows)
    project.decide("source", source, "your texts as they are; read again by `handrail data`")
    project.decide("data", target.name, "your texts, clean, as data.py reads them")
    if kinds := project.settings.get("kinds"):
        project.decide("source_kinds", kinds, "the files that were read in the source")
        project.decide("kinds", None)
    screen.say(f"Written clean into {target.name}/, where data.py reads it", seen.notes)


def passed_over(seen):
    """Say which files of a folder are not read: empty ones by name, the others by kind."""
    said = ""
    if seen.passed:
        said += f" Passed over, not read: {text_files.endings(seen.passed)}."
    if seen.empty:
        said += f" Empty, so skipped: {len(seen.empty)} ({some(seen.empty, ', ')})."
    if any(text_files.MARKITDOWN in why for why in seen.harmless):
        said += f" To read documents as well: {text_files.MARKITDOWN}"
    return said


def meant_too(screen, path, seen):
    """On a terminal: where most of a folder is text of another ending, ask whether it is meant
    too; return that ending on a yes.
    """
    ending, number = next(iter(seen.passed.most_common(1)), ("", 0))
    if not screen.talks or number <= seen.files:
        return None
    file = next(file for file in text_files.local_files(path) if file.suffix == ending)
    question = f"{number:,} files end in {ending or 'nothing'} and seem to be plain text."
    if not text_files.is_text(file):
        return None
    answer = screen.ask(f"{question} Read them too? (y, or Enter for no)")
    return ending if answer.lower() == "y" else None


def text_column(seen, wanted):
    """Return (column, why) of the text; column is None when it cannot be told."""
    if wanted:
        return (wanted if wanted in seen.columns else None), "asked for"
    longest = seen.characters.most_common(2)
    short = seen.characters["text"] < 200 * seen.filled["text"]  # a title, say, or a caption
    hidden = longest and longest[0][0] in seen.derived
    rival = longest and longest[0][1] > 3 * seen.characters["text"] and (hidden or short)
    if seen.filled["text"] and not rival:
        return "text", "its name says it"
    if len(longest) == 1:
        return longest[0][0], "the only column with text in it"
    if longest and longest[0][1] > 3 * longest[1][1]:
        return longest[0][0], "by far the longest texts are in it"
    return None, ""


def choose_column(project, screen, seen):
    """Find the column that holds the text, ask for it, or raise Stop with the names there are."""
    wanted = project.settings.get("column")
    about = {"data": project.settings["data"], "wanted": wanted}
    about["names"] = ", ".join(map(str, seen.columns)) or "none"
    if not seen.rows:
        raise Stop(problem("no line with text", **about))
    column, why = text_column(seen, wanted)
    while column is None and screen.talks:
        answer = screen.ask(f"Which column holds the text? There are: {about['names']}.")
        column, why = answer if answer in seen.columns else None, "chosen by you"
    if column is None:
        raise Stop(problem("no such column" if wanted else "which column", **about))
    if not seen.filled[column]:
        raise Stop(problem("empty column", column=column, **about))
    if column not in (wanted, "text"):
        project.decide("column", column, f"the column with the text: {why}")
        if not wanted:
            screen.print(f"  The text is in the column {column!r}: {why}. (Another: --column NAME)")
    return column


# --- the documents, as the learner's data.py gives them ---


def safe_count(project, program):
    """Count; what a library says about data that it cannot read becomes a Stop.

    A mistake in an edited data.py does not.
    """
    try:
        return count(program)
    except Exception as error:
        if project.edited(FILES):
            raise
        source = project.settings["data"]
        if text_files.locate(project, source) is None:
            raise Stop(text_files.hub_fault(source, error)) from error
        why = f"{type(error).__name__}: {str(error)[:400]}"
        raise Stop(problem("not read to its end", source=source, error=why)) from error


# --- what is shown and judged ---


def size(number):
    """Return bytes as a person says them."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number} bytes"


def histogram(lengths):
    """Return (edges, counts) of the lengths, in ten steps that grow with the length."""
    low, high = max(1, min(lengths)), max(lengths) + 1
    edges = np.unique(np.geomspace(low, high, 11).round().astype(int))
    return edges.tolist(), np.histogram(lengths, edges)[0].tolist()


def show(screen, found):
    """Print three samples and the histogram of length; return what the notebook shows of them."""
    drawn = [text for _, text in random.Random(1).sample(found.sample, min(3, len(found.sample)))]
    samples = [" ".join(text.split())[:300] for text in drawn]
    screen.say(
        "Three documents picked at random. Is this the text you meant to use?",
        samples,
        plain=True,
    )
    edges, counts = histogram(found.lengths)
    plot = {
        "kind": "bars",
        "x": [f"{a:,}" for a in edges[:-1]],
        "y": counts,
        "xlabel": "characters (where each bar starts)",
        "ylabel": "documents",
    }
    return samples, {"Length of the documents, in characters": plot}


def judge_amount(words, found):
    quantiles = np.percentile(found.lengths, [10, 50, 90, 100]).astype(int)
    largest = quantiles[3] / max(1, sum(found.lengths))
    seen = "" if found.whole else f" (the first {size(text_files.LOOK)} only)"
    number = f"{found.number:,}, {size(found.bytes)}{seen}"
    lengths = " · ".join(f"{q:,}" for q in quantiles)
    name = "characters: shortest 10%, median, longest 10%, most"
    checks = [
        words.check("documents", number, found.number >= 20, "warn"),
        words.check(name, lengths, quantiles[1] > 20, "warn"),
    ]
    if largest > 0.5:
        checks.append(words.check("longest document", f"{largest:.0%}", False, "warn"))
    return checks


def judge_rows(words, seen, found, column):
    filled = seen.filled[column]
    empty, shown = seen.rows - filled, {"filled": filled, "column": column}
    checks = []
    if seen.whole and found.whole and seen.tables == seen.files:
        name, same = "rows with text that became documents", found.number == filled
        checks.append(words.check(name, f"{found.number:,}", same, "warn", **shown))
    number = f"{empty:,} of {seen.rows:,}"
    return [*checks, words.check("rows without text", number, empty == 0, "warn", **shown)]


def judge_columns(words, seen, column):
    """Return the check that no file was skipped whole because its text has another name."""
    holding = set().union(*seen.columns.values())
    lost = sorted(holding - seen.columns[column], key=lambda file: file.name)
    if not lost:  # of a single file nothing has to be said
        return []
    share = sum(file.size for file in lost) / max(1, seen.bytes)
    other = next(name for name, files in seen.columns.items() if lost[0] in files)
    number = f"{len(lost):,} of {seen.files:,}, {share:.0%} of the bytes"
    shown = {"lost": lost[0].name, "other": other, "column": column}
    return [words.check("files with nothing in that column", number, False, "warn", **shown)]


def judge_copies(words, found):
    counts = found.copies[0] + found.copies[1]
    extra, most = 1 - len(counts) / found.number, max(counts.values()) / found.number
    near = near_duplicates(dict(found.sample).values())
    part = f" in a sample of {SAMPLE:,}" if found.number > SAMPLE else ""
    shown = {"most": " ".join(found.most.split())[:80]}
    few, bad = most <= 0.01 or max(counts.values()) == 1, "fail" if most > 0.5 else "warn"
    said = f"{most:.1%} of all" if max(counts.values()) > 1 else "none is repeated"
    return [
        words.check("most repeated document", said, few, bad, **shown),
        words.check("exact copies", f"{extra:.1%}", extra <= 0.01, "warn"),
        words.check("near copies", f"{near:.1%}{part}", near <= 0.05, "warn"),
    ]


def judge_split(words, found):
    train, val = found.copies
    number = sum(val.values())
    share, overlap = number / found.number, len(train.keys() & val.keys()) + found.moved
    # four standard deviations: chance goes further once in 16,000 times
    spread = 4 * (0.05 * 0.95 / found.number) ** 0.5
    usual = abs(share - 0.05) <= spread + 0.01
    return [
        words.check("val documents", f"{number:,}, {share:.1%}", usual, "warn"),
        words.check("train/val overlap", overlap, overlap == 0),
    ]


def judge_enough(project, words, bytes_):
    """Return the check that there is as much text as a new model can use.

    It cannot use more than its run reads in the time that there is.
    """
    settings = project.settings
    reads = settings["updates"] * settings["batch"] * settings["context"]
    needed = min(4 * tokens_needed(project), bytes_per_token(settings["vocabulary"]) * reads)
    outlook = "prose that is gibberish, in words that look like yours"
    if bytes_ >= 2_000_000:
        outlook = "prose in right words and short phrases, but with little sense"
    shown = {"needed": size(needed), "bytes": size(bytes_), "outlook": outlook, "small": SMALL}
    return words.check("enough text", size(bytes_), bytes_ >= needed, "warn", **shown)


def offer_base(project, screen, enough):
    """On a terminal: ask whether to continue from a small open model; return True on a yes."""
    if enough.verdict == "pass" or not screen.talks:
        return False
    from transformers import AutoConfig

    screen.say("Too little text to start from nothing", [enough.meaning, enough.advice])
    question = f"Continue from {SMALL} instead? (downloads 269 MB; y, or Enter for no)"
    if screen.ask(question).lower() != "y":
        return False
    try:
        opened(AutoConfig, SMALL)
    except Stop as reason:
        why = str(reason).split("\n")[0]
        again = "To try again later: r, at the question below."
        screen.say("So it starts from nothing", [why, again])
        return False
    project.decide("base", SMALL, "too little text to learn a language from nothing")
    return True


def refuse_too_little(project, seen, found, kinds):
    """Raise Stop when no training is possible at all."""
    tokens, val = found.bytes // 4, sum(found.copies[1].values())
    about = {"number": found.number, "bytes": found.bytes, "tokens": tokens, "least": LEAST}
    about["file"] = shlex.quote(str(project.folder / "data.py"))
    if found.number == 0:
        why = "no document"
    elif tokens < LEAST:
        why = "too little text"
    elif val in (0, found.number) and not found.moved:
        why = "nothing in train" if val else "nothing in val"
    else:
        return
    lines = [problem(why, **about)]
    if seen.passed.total() > seen.files:
        passed = {"number": seen.passed.total(), "endings": text_files.endings(seen.passed)}
        lines.append(problem("files not read", fix=how_to_read(seen, kinds), **passed))
    raise Stop("\n".join(lines))


def how_to_read(seen, kinds):
    """Say how the files that were not read can be."""
    ending = seen.passed.most_common(1)[0][0] if seen.passed else ""
    if ending.lower() in text_files.DOCUMENTS:
        return problem("documents too", command=text_files.MARKITDOWN)
    return text_files.as_text([*kinds, ending])


def beginning(found):
    """Return the first words of a val document, of its first line: it has no space for a new line.

    Of a text of one or two words, as in a list of names, the first letters.
    """
    text = (found.val_text or found.sample[0][1]).strip()
    words = " ".join(text.splitlines()[0].split()[:4])[:60]
    if words == text:
        words = words[: len(words) // 2 or 1]
    return "".join(sign for sign in words if sign.isprintable())


def is_list(texts):
    """Return whether texts seem to be lists of short lines, such as names."""
    lines = sum(text.strip().count("\n") for text in texts)
    return sum(map(len, texts)) < SHORT * lines and not any("\n\n" in text for text in texts)


def say_plan(project, screen, program, chosen):
    """Print what the plan chose, {name: (value, why)}, with what each setting means."""
    meanings = {name: meaning for name, (_, meaning) in program.settings.SETTINGS.items()}
    lines = [f"{name} = {value}: {meanings[name]} ({why})" for name, (value, why) in chosen.items()]
    place = "from your data and machine"
    if project.settings.get("world"):
        lines = [f"{name} = {value}: {meanings[name]}" for name, (value, _) in chosen.items()]
        lines.append("These values were tested with the built-in stories.")
        place = "for the built-in stories"
    screen.say(f"Chosen {place}, in settings.toml", lines, plain=True)


def run(project, screen):
    check_size(project)
    choose_world(project)
    seen, column = survey(project, screen, project.load("data"))
    program = project.load("data")  # with the column
    if seen.bytes > 20e6:
        seconds = min(seen.bytes, text_files.LOOK) / 8e6
        screen.print(f"  Counting and comparing the documents, about {seconds:.0f} s ...")
    found, words = safe_count(project, program), Words(project, "data")
    refuse_too_little(project, seen, found, program.values.kinds)
    if not seen.tables and found.whole and found.number > seen.files:
        shown = shown_if(list=is_list(dict(found.sample).values()))
        for line in words.say("pieces", number=found.number, **shown):
            screen.print(screen.fill(line))
    write_floor(project, found)
    samples, plots = show(screen, found)
    bytes_ = found.bytes if found.whole else max(found.bytes, seen.bytes)  # of all text
    amount = bytes_, found.number / found.bytes * bytes_, beginning(found)
    chosen = plan(project, *amount)
    checks = [*judge_files(words, seen, program.values.kinds), *judge_amount(words, found)]
    if seen.tables:
        checks += judge_rows(words, seen, found, column) + judge_columns(words, seen, column)
    checks += judge_copies(words, found) + judge_split(words, found)
    if not project.settings.get("base"):
        checks.append(judge_enough(project, words, bytes_))
        if offer_base(project, screen, checks[-1]):
            chosen = plan(project, *amount)
    say_plan(project, screen, program, chosen)
    val = sum(found.copies[1].values())
    values = {"number": found.number, "size": size(bytes_), "val": val}
    values["answer"] = f"{found.number:,} documents"
    values |= shown_if(columns=seen.tables and seen.bytes > 1.2 * found.bytes)
    return Outcome(checks, values, samples, plots)


def judge_files(words, seen, kinds):
    """Return the check that most of a folder was read, where something in it was not."""
    if not seen.passed:
        return []
    number, ending = seen.passed.total(), seen.passed.most_common(1)[0][0]
    read = f"{seen.files:,} of {seen.files + number:,}"
    shown = {"passed": number, "ending": ending or "without an ending"}
    shown["as_text"] = how_to_read(seen, kinds)
    return [words.check("files read", read, seen.files >= number, "warn", **shown)]


def write_floor(project, found):
    """Write out/floor.json, the lowest possible loss of each val document in nats, if known."""
    file = project.out / "floor.json"
    if found.whole and len(found.val_nats) == sum(found.copies[1].values()) > 0:
        file.write_text(json.dumps(found.val_nats))
    else:
        file.unlink(missing_ok=True)
