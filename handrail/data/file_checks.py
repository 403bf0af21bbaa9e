"""What can be seen in data files before a run: broken rows, copies, order, length, val in train.

The files are read as the walk reads them. The words are in the doctor's catalogue.
"""

import json
import re
import tomllib
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice, pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

from handrail.data import chats, text_files
from handrail.doctor import saved
from handrail.doctor.findings import finding
from handrail.project.project import Stop

VAL = re.compile(r"^(val|valid|validation|test|dev|eval)\b", re.I)
USUAL = {"columns that change from row to row", "columns with other columns in them"}
OURS = ("metrics", "checks")  # files of handrail that are no data
LOOK = 20_000  # rows of a file that are read
RUN = 12  # words in a row that count as the same text


@dataclass
class Read:
    """One file: the texts of its rows, and what was wrong with it."""

    name: str
    texts: list
    empty: int = 0  # rows without text, or that cannot be used
    table: bool = True
    notes: set = field(default_factory=set)  # what had to be done to read it
    problems: list = field(default_factory=list)

    @property
    def is_val(self):
        return bool(VAL.search(Path(self.name).name))


def look(path):
    """Return the findings in the data at a path: a file, a folder of files, or a project."""
    path = Path(path)
    if (path / "settings.toml").exists():
        found = look_at_project(path)
    elif path.is_dir() and is_run(path):
        places = [path / "data", path / "out" / "chats"]
        found = [found for place in places if place.is_dir() for found in look_at_data(place)]
    else:
        found = look_at_data(path)
    return list({one.name: one for one in [*found][::-1]}.values())[::-1]


def is_run(folder):
    """Return True for a folder with models or the log of a run: what else is there is no data."""
    models = any(any(folder.glob(place)) for place in saved.PLACES)
    return models or any(saved.read_log(folder))


def look_at_data(path):
    """Return the findings in a file or a folder of files."""
    files, problems = read_files(path)
    if not files:
        return [finding("data-not-read", " ".join(problems)[:300] or f"{path}: no such files")]
    found = [found for file in files for found in look_at_file(file)]
    return [*found, *dropped(files, problems), *overlap(files)]


# --- reading ---


def read_files(path):
    """Return (every file that can be read, as Read; what else was in the way)."""
    files, problems = [], []
    with TemporaryDirectory() as folder:
        try:
            for file in text_files.opened(path, Path(folder)):
                known = file.path == path or text_files.is_read(file.path, text_files.KINDS)
                if known and file.size and not Path(file.name).name.startswith(OURS):
                    files += read_file(file, problems)
        except text_files.Unreadable as error:
            problems.append(str(error))
    return files, problems


def read_file(found, problems):
    """Yield one file as Read, or nothing if there is no text in it."""
    notes, own, rows = set(), [], []
    try:
        for number, row in islice(text_files.rows(found.path, own, notes), LOOK):
            rows.append((f"{found.name}, row {number}", row))
    except text_files.Harmless as error:
        problems.append(str(error))
        return
    except (text_files.Unreadable, OSError) as error:
        own.append(str(error))
    own = [problem for problem in own if not problem.startswith("To leave")]
    if not text_files.is_table(found.path):  # a text is one document
        texts = ["".join(row["text"] for _, row in rows)]
        yield Read(found.name, texts, table=False, notes=notes, problems=own)
        return
    texts = talks_in(found.name, [row for _, row in rows])
    texts = [written(row) for _, row in rows] if texts is None else texts
    whole = [text for text in texts if text]
    empty = max(len(rows), len(texts)) - len(whole)
    yield Read(found.name, whole, empty, notes=notes, problems=own)


def talks_in(name, rows):
    """Return the text of each row of questions and answers, in any form; None of other tables."""
    columns = dict.fromkeys(column for row in rows for column in row)
    if not chats.parts_of(columns):
        return None
    try:
        found = chats.read_chats(rows, name)
    except Stop:
        return None
    texts = []
    for row in found.rows:
        said = [message["content"] for message in row["messages"] if message["role"] != "system"]
        texts.append("\n".join([*said, row.get("chosen", ""), row.get("rejected", "")]).strip())
    return texts


def written(row):
    """Return all texts in the columns of a row."""
    values = text_files.plain(row).values()
    return "\n".join(value for value in values if isinstance(value, str)).strip()


# --- judging ---


def dropped(files, problems):
    """Rows that cannot be used: a loader that skips them does so silently."""
    places = [problem for file in files for problem in file.problems]
    empty = sum(file.empty for file in files)
    total = empty + sum(len(file.texts) for file in files)
    if places or empty > 0.01 * total:
        evidence = (
            f"of {total:,} rows, {empty:,} have no text; places that cannot be read: "
            f"{len(places)}. {' '.join(places[:2])[:300]}"
        )
        yield finding("rows-dropped", evidence, level="certain" if places else "")


def overlap(files):
    """Texts of val that are in train, exactly or nearly."""
    train = [text for file in files if not file.is_val for text in file.texts]
    val = [text for file in files if file.is_val for text in file.texts]
    if not any("train" in Path(file.name).stem.lower() for file in files):
        return
    whole = set(map(plain, train))
    parts = {run for text in train for run in runs(text)}
    near = [text for text in val if plain(text) in whole or is_near(runs(text), parts)]
    if len(near) >= 2 and len(near) > 0.005 * len(val):
        example = near[0][:80]
        evidence = f"{len(near)} of {len(val):,}, exactly or nearly; for example {example!r}"
        yield finding("train-val-overlap/files", evidence)


def look_at_file(file):
    """Yield what the rows of one file show: copies, order, length."""
    if unclean := sorted(file.notes - USUAL):
        yield finding("data-not-clean", f"{file.name}: {'; '.join(unclean)}")
    if len(file.texts) < 20:
        return
    yield from copies(file)
    lengths = list(map(len, file.texts))
    tenth = len(lengths) // 10
    means = [sum(lengths[i : i + tenth]) / tenth for i in range(0, 10 * tenth, tenth)]
    if all(a <= b for a, b in pairwise(means)) and means[-1] > 1.5 * means[0]:
        evidence = f"{file.name}: from {means[0]:.0f} to {means[-1]:.0f} characters a row"
        yield finding("time-left-misjudged", evidence)
    longest, half = max(lengths), sorted(lengths)[len(lengths) // 2]
    if longest > 8 * half and longest > 4000:
        evidence = (
            f"{file.name}: half have {half:,} characters or less, the longest {longest:,} "
            f"(row {lengths.index(longest) + 1})"
        )
        yield finding("out-of-memory-late/files", evidence)


def copies(file):
    """One text that makes up much of a file."""
    text, often = Counter(file.texts).most_common(1)[0]
    held = Counter(run for text in file.texts for run in runs(text))
    passage = max(held.values(), default=0) > 0.3 * len(file.texts)
    if often > 0.1 * len(file.texts) or passage and often > 2 and not file.name.endswith(".csv"):
        evidence = f"{file.name}: {often} of {len(file.texts):,} rows are {text[:80]!r}"
        yield finding("one-document-dominates", evidence)


def plain(text):
    return " ".join(text.lower().split())


def runs(text):
    """Return hashes of some runs of words; which ones depends on the words alone."""
    words = re.findall(r"\w+", text.lower())
    found = (tuple(words[i : i + RUN]) for i in range(max(0, len(words) - RUN + 1)))
    return {hash(run) for run in found if sum(map(len, run)) % 3 == 0}


def is_near(own, others):
    return len(own & others) > 0.8 * len(own)


# --- what a project has prepared ---


def look_at_project(folder):
    """Return the findings in the data of a project, and in its prepared tokens."""
    settings = tomllib.loads((folder / "settings.toml").read_text(encoding="utf-8"))
    tokens, tokenizer = folder / "out" / "tokens", None
    found = []
    if (tokens / "val.bin").exists():
        tokenizer = saved.open_tokenizer(folder / "out" / "tokenizer")
    if tokenizer is not None:
        found += look_at_tokens(tokens, tokenizer)
        found += look_at_prepared(folder, settings, tokenizer)
    places = [folder / "data", folder / "out" / "chats"]
    places += [folder / settings["data"]] if settings.get("data") else []
    for place in places:
        if place.exists():
            found += [one for one in look_at_data(place) if one.name != "data-not-read"]
    return found


def read_tokens(folder, side, most):
    """Return the tokens of one side of a project."""
    import numpy as np

    about = folder / "about.json"
    kind = json.loads(about.read_text()).get("dtype", "uint16") if about.exists() else "uint16"
    return np.fromfile(folder / f"{side}.bin", dtype=kind, count=most)


def look_at_tokens(folder, tokenizer):
    """Yield ids beyond the vocabulary, and documents of val that are in train."""
    import numpy as np

    documents = {}
    for side in ("train", "val"):
        tokens = read_tokens(folder, side, 5_000_000)
        if len(tokens) and tokens.max() >= len(tokenizer):
            evidence = (
                f"{folder / side}.bin: {tokens.max():,}; the tokenizer has {len(tokenizer):,}"
            )
            yield finding("vocabulary-mismatch/prepared", evidence)
        parts = np.split(tokens, np.flatnonzero(tokens == tokenizer.eos_token_id) + 1)
        documents[side] = [part.tobytes() for part in parts if len(part) > 8]
    known = set(documents["train"])
    both = sum(document in known for document in documents["val"])
    if both >= 2 and both > 0.005 * len(documents["val"]):
        evidence = f"{both} of {len(documents['val']):,} documents of val, token for token"
        yield finding("train-val-overlap/files", evidence)


def look_at_prepared(folder, settings, tokenizer, most=500):
    """Yield rows that are in neither side of the tokens, though rows before and after them are."""
    source, column = folder / settings.get("data", ""), settings.get("column", "text")
    if not source.is_file() or not text_files.is_table(source):
        return
    known = prepared(folder / "out" / "tokens", tokenizer, most)
    places, texts, ends = {"train": 0, "val": 0}, [], Counter(known.values())
    for _, row in text_files.rows(source, [], set()):
        text = row.get(column)
        if isinstance(text, str) and text.strip():
            texts.append(text.strip())
            if side := known.get(texts[-1]):
                places[side] = len(texts)
        if len(texts) == 40 * most:
            break
    end = min((place for side, place in places.items() if ends[side]), default=0)
    missing = [text for text in texts[:end] if text not in known]
    if len(missing) >= 3 and len(missing) > 0.02 * end:
        evidence = (
            f"{len(missing):,} of the first {end:,} rows of {source.name} are in neither side; "
            f"they have {mean(missing):,.0f} characters on average, the others "
            f"{mean(text for text in texts[:end] if text in known):,.0f}; "
            f"for example {missing[0][:60]!r}"
        )
        yield finding("rows-dropped/prepared", evidence)


def prepared(folder, tokenizer, most):
    """Return {text: its side} of the first documents of both sides."""
    import numpy as np

    known = {}
    for side in ("train", "val"):
        tokens = read_tokens(folder, side, 2_000_000)
        parts = np.split(tokens, np.flatnonzero(tokens == tokenizer.eos_token_id))[1 : most + 1]
        for text in tokenizer.batch_decode([part[1:].tolist() for part in parts]):
            known[text.strip()] = side
    return known


def mean(texts):
    lengths = list(map(len, texts))
    return sum(lengths) / max(1, len(lengths))
