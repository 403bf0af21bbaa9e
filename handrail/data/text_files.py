"""The raw files, checked before the learner's data.py reads them: what cannot be read is named, and how to fix it.

Everything is streamed. Of a huge source only the first LOOK bytes are read.
"""

import codecs
import csv
import json
import re
import shlex
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from handrail.project import Stop

LOOK = 200_000_000  # bytes that are looked at
LINE = 50_000_000  # bytes that a line may have
NAMED = 5  # problems named one by one, before only their number is said

HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]*){0,2}")


class Unreadable(Exception):
    """The rest of a file cannot be read; the text says why and how to fix it."""


class NoRows(Unreadable):
    """The file is whole, but it holds no rows."""


@dataclass
class Survey:
    """What was seen in a source: how much, and for every column how many rows hold text and how long it is."""

    bytes: int = 0  # of the whole source, as far as known
    seen: int = 0
    whole: bool = True
    tables: bool = True  # rows and columns, not only plain text
    pieces: bool = False  # plain text among it, which data.py cuts as it likes
    rows: int = 0
    filled: Counter = field(default_factory=Counter)  # column: rows with text in it
    characters: Counter = field(
        default_factory=Counter
    )  # column: length of all its texts that are no numbers
    columns: dict = field(
        default_factory=dict
    )  # every column's name, in order: the files in which it holds text
    problems: list = field(default_factory=list)
    files: int = 0
    passed: Counter = field(
        default_factory=Counter
    )  # files of other endings in the same folder, not read
    no_rows: list = field(
        default_factory=list
    )  # whole .json files that are no tables: settings of some program, say


# --- lines, as they are on the disk ---


def first_fault(file):
    """Return what is wrong with a file as a whole, or None."""
    with open(file, "rb") as stream:
        start = stream.read(8192)
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return f"this is UTF-16, not UTF-8. Make a copy that is: {recode(file, 'UTF-16')}"
    if start.count(b"\0") > 0.3 * len(start) and b"\0\0" not in start:
        code = "UTF-16LE" if start[1:2] == b"\0" else "UTF-16BE"
        return f"this is UTF-16, not UTF-8. Make a copy that is: {recode(file, code)}"
    if b"\0" in start:
        return "there are null bytes in it, so it is not plain text (a picture, a program, a zip?). Remove it from the data"
    return None if start else "the file is empty. Remove it, or fill it"


def recode(file, code):
    new = file.with_name(f"{file.stem}.utf8{file.suffix}")
    command = f"iconv -f {code} -t UTF-8 {shlex.quote(str(file))} > {shlex.quote(str(new))}"
    return f"\n  {command}\n(then use the copy in its place)"


def lines(file):
    """Yield the lines of a file as (number, text, bytes); raise Unreadable at the first that is not plain text."""
    if fault := first_fault(file):
        raise Unreadable(f"{file}: {fault}.")
    with open(file, "rb") as stream:
        number = 0
        while line := stream.readline(LINE + 1):
            number += 1
            where = f"{file}, line {number}"
            if len(line) > LINE:
                raise Unreadable(
                    f"{where}: longer than {LINE // 1_000_000} MB. Put a line break after each paragraph or row; for plain text: "
                    f"\n  fold -s -w 1000 {shlex.quote(str(file))} > {shlex.quote(str(file.with_name(file.stem + '.folded' + file.suffix)))}"
                )
            if b"\0" in line:
                raise Unreadable(
                    f"{where}: null bytes, so this is not plain text. Remove the file from the data."
                )
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise Unreadable(
                    f"{where}, byte {error.start + 1}: 0x{line[error.start]:02x} is not UTF-8. If the file is an older Western "
                    f"one: {recode(file, 'WINDOWS-1252')}"
                )
            yield number, text, len(line)


# --- rows, one reader for each kind of file; each yields (row, bytes) and adds to `problems` ---


def text_rows(file, problems):
    for _, text, size in lines(file):
        if text.strip():
            yield {"text": text}, size


def jsonl_rows(file, problems):
    """All broken lines are collected, so that they can be fixed in one go."""
    broken = []
    for number, text, size in lines(file):
        if not text.strip():
            continue
        try:
            row = json.loads(text)
            if "\\u" in text:
                json.dumps(
                    row, ensure_ascii=False
                ).encode()  # half a character, as in "\ud800", fails here
        except json.JSONDecodeError as error:
            problems.append(
                f"{file}, line {number}, character {error.colno}: not valid JSON ({error.msg})."
            )
            broken.append(number)
        except UnicodeEncodeError:
            problems.append(
                f"{file}, line {number}: holds half a character (a lone surrogate such as \\ud800)."
            )
            broken.append(number)
        else:
            if isinstance(row, dict):
                yield row, size
            else:
                problems.append(
                    f"{file}, line {number}: {type(row).__name__} where an object {{...}} is expected."
                )
                broken.append(number)
        if len(broken) == 1000:  # no JSON lines at all
            return
    if 0 < len(broken) <= 20:
        command = f"sed -i.bak '{';'.join(f'{n}d' for n in broken)}' {shlex.quote(str(file))}"
        problems.append(
            f"To leave those lines out (the file as it was is kept as .bak):\n  {command}"
        )


def json_rows(file, problems):
    """A list of objects, or one object per line."""
    first, more = "", False
    for _, text, _ in lines(file):  # all of them, so that each is known to be plain text
        first, more = first or text.strip(), more or bool(first and text.strip())
    if not first.startswith("[") and is_json(first) and (more or not holds_a_table(first)):
        yield from jsonl_rows(file, problems)
        return
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        raise Unreadable(
            f"{file}, line {error.lineno}, character {error.colno}: not valid JSON ({error.msg}). Fix that place."
        )
    if not isinstance(found, list):
        raise NoRows(
            f"{file}: no list of objects. Expected is [{{...}}, {{...}}], or one object {{...}} per line."
        )
    for number, row in enumerate(found, start=1):
        if isinstance(row, dict):
            yield row, len(json.dumps(row))
        else:
            problems.append(
                f"{file}, item {number}: {type(row).__name__} where an object {{...}} is expected."
            )


def holds_a_table(text):
    """Return True for an object that is no row, but has a list of rows in it, as in {"data": [{...}]}."""
    found = json.loads(text)
    return isinstance(found, dict) and any(
        isinstance(value, list)
        and value
        and isinstance(value[0], dict)
        and not {"role", "from"} & value[0].keys()
        for value in found.values()
    )


def is_json(text):
    try:
        return bool(json.loads(text))
    except json.JSONDecodeError:
        return False


def csv_rows(file, problems):
    csv.field_size_limit(LINE)
    sizes = []
    reader = csv.reader((sizes.append(size) or text for _, text, size in lines(file)), strict=True)
    try:
        head = next(reader)
        if max(map(len, head), default=0) > 80:
            columns = ",".join(f"column{n}" for n in range(1, len(head) + 1))
            raise Unreadable(
                f"{file}, line 1: there is a row of data where the names of the columns should be. Add them above it:\n  sed -i.bak '1i {columns}' {shlex.quote(str(file))}"
            )
        if len(head) == 1 and (other := [sign for sign in ";\t|" if sign in head[0]]):
            raise Unreadable(
                f"{file}: the columns seem to be separated by {other[0]!r}, expected is a comma. Make a copy with commas: python -c "
                f"\"import pandas; pandas.read_csv({str(file)!r}, sep={other[0]!r}).to_csv('commas.csv', index=False)\""
            )
        for row in reader:
            if row and len(row) != len(head):
                problems.append(
                    f"{file}, line {reader.line_num}: {len(row)} columns, the first line has {len(head)}. Is a comma or a line "
                    'break in a text not inside "quotes"?'
                )
            yield dict(zip(head, row)), sum(sizes)
            sizes.clear()
    except csv.Error as error:
        raise Unreadable(
            f'{file}, line {reader.line_num}: {error}. A text with quotes or line breaks must be inside "...", with its own quotes doubled.'
        )


def is_number(text):
    return bool(re.fullmatch(r"\s*[-+]?[\d.]+(e[-+]?\d+)?\s*", text, re.I))


def parquet_rows(file, problems):
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.ParquetFile(file)
        for batch in table.iter_batches(1000):
            size = max(1, batch.nbytes // max(1, batch.num_rows))
            for row in batch.to_pylist():
                yield row, size
    except (pyarrow.ArrowException, OSError) as error:
        raise Unreadable(
            f"{file}: not a complete parquet file ({str(error).strip()[:200]}). Download or write it again."
        )


READERS = {".jsonl": jsonl_rows, ".json": json_rows, ".csv": csv_rows, ".parquet": parquet_rows}
KINDS = [".txt", ".md", *READERS]  # of files that are read


# --- a source as a whole ---


def add(survey, row, size, file=None):
    """Count one row, of a file."""
    survey.rows += 1
    survey.seen += size
    for name, value in row.items():
        holding = survey.columns.setdefault(name, set())
        if isinstance(value, str) and value.strip():
            survey.filled[name] += 1
            holding.add(file)
            if not is_number(value):
                survey.characters[name] += len(value)


def survey_files(files):
    """Return the Survey of local files; problems are collected, not raised."""
    survey = Survey(
        bytes=sum(file.stat().st_size for file in files),
        tables=any(file.suffix in READERS for file in files),
        pieces=any(file.suffix not in READERS for file in files),
    )
    for file in files:
        try:
            for row, size in READERS.get(file.suffix, text_rows)(file, survey.problems):
                add(survey, row, size, file)
                if survey.seen > LOOK:
                    survey.whole = False
                    return survey
        except Unreadable as error:
            survey.problems.append(str(error))
            survey.no_rows += [file] * isinstance(error, NoRows)
        except OSError as error:
            survey.problems.append(
                f"{file}: cannot be opened ({error.strerror}). `ls -l` shows who may read it."
            )
    return survey


def survey_hub(source, rows):
    """Return the Survey of the first rows of a hub data set, or raise Stop with what its owner has to do."""
    survey = Survey(whole=False)
    try:
        for _, row in zip(range(1000), rows):
            add(survey, row, sum(len(value) for value in row.values() if isinstance(value, str)))
    except Exception as error:  # `datasets` has a class for each of many reasons
        raise Stop(hub_fault(source, error)) from error
    return survey


def hub_fault(source, error):
    """Return what to do about a hub data set that could not be opened."""
    name, text = source.split(":")[0], f"{type(error).__name__}: {error}"
    page = f"https://huggingface.co/datasets/{name}"
    head = f"The data set {source} could not be opened. There is no file or folder of that name here either.\n"
    if "OfflineMode" in text:
        return (
            head
            + "HF_HUB_OFFLINE is set, so nothing is downloaded. Allow it, then run the same command again: unset HF_HUB_OFFLINE"
        )
    if re.search("gated|401|403|private|authenticated", text):
        return (
            head
            + f"You need to be logged in for it. Accept its conditions at {page} and log in: hf auth login\nThen run the same command again."
        )
    if "Couldn't reach" in text or isinstance(error, ConnectionError):
        return (
            head
            + "The hub cannot be reached. Check the network: curl -I https://huggingface.co   Then run the same command again."
        )
    if re.search("config|split", text, re.I) and "DatasetNotFound" not in text:
        return head + f"{str(error)[:600]}\nName one of them: --data {name}:CONFIG:SPLIT"
    return (
        head
        + f"{str(error)[:300]}\nLook for its exact name at {page}. If it is private, log in first: hf auth login"
    )


def no_files(source):
    """Return the Stop for a source in which nothing can be read."""
    kinds = "I read .txt .md .jsonl .json .csv .parquet (small letters)."
    if source.is_file():
        return Stop(f"{source}: this kind of file is not read. {kinds} {as_text([source.suffix])}")
    there = f"{source}: no file in this folder can be read. {kinds} There is: {endings(source, []) or 'nothing'}."
    known = [ending for ending, _ in count_endings(source, []).most_common(5)]
    found = [ending for ending in known if not not_text(source, ending)]
    fix = (
        as_text(found)
        if found
        else "Convert it to text first: pdftotext FILE.pdf, or pandoc FILE.docx -t plain -o FILE.txt"
        if known
        else ""
    )
    return Stop(f"{there} {fix}".rstrip())


def not_text(folder, ending):
    """Return what is wrong, as plain text, with the first file of that ending in a folder, or None."""
    return first_fault(next(file for file in local_files(folder) if file.suffix == ending))


def as_text(endings):
    """Say how files of other endings are read."""
    return f"If that is plain text, say so in settings.toml of the project, with this as its only line `kinds`: kinds = {json.dumps(endings)}"


def local_files(source):
    """Return the files of a folder, or the one file; hidden files and those of handrail projects are skipped, as in data.py."""
    found = sorted(source.rglob("*")) if source.is_dir() else [source]
    seen = [
        file
        for file in found
        if not any(part.startswith(".") for part in file.relative_to(source).parts)
    ]
    projects = {
        file.parent
        for file in seen
        if file.name == "settings.toml" and (file.parent / "out").exists()
    }
    return [file for file in seen if file.is_file() and projects.isdisjoint(file.parents)]


def endings(source, without):
    """Return the kinds of files in a folder that are not in `without`, as "3 .pdf, 1 .docx"."""
    return ", ".join(
        f"{number:,} {ending or '(no ending)'}"
        for ending, number in count_endings(source, without).most_common(5)
    )


def passed_over(source, files):
    """Say which files of a folder are not read: empty ones by name, the others by kind."""
    left = set(local_files(source)) - set(files)
    empty = [file for file in sorted(left) if not file.stat().st_size]
    others = endings(source, [*files, *empty])
    said = f" Passed over, not read: {others}." if others else ""
    if empty:
        names = ", ".join(str(file.relative_to(source)) for file in empty[:NAMED])
        more = ", ..." if len(empty) > NAMED else ""
        said += f" Empty, so skipped: {len(empty)} ({names}{more})."
    return said


def count_endings(source, without):
    """Return {ending: files} of a folder, without those in `without`."""
    return Counter(path.suffix for path in local_files(source) if path not in without)


def locate(project, source, flag=None):
    """Return the path of a local source, or None for a hub data set; raise Stop, with the flag that named it, when it can be neither."""
    path = project.folder / Path(source).expanduser()
    path = path.resolve() if path.exists() else path
    if path.exists():
        return path
    if not HUB_NAME.fullmatch(source) or Path(source.split(":")[0]).suffix in KINDS:
        flag = flag or ("answers" if source == project.settings.get("answers") else "data")
        raise Stop(
            f"There is no file or folder {source!r} (looked in {Path.cwd()} and {project.folder}), and it is not the name of a hub data set "
            f"(owner/name). Check it with `ls`, then run the same command with --{flag} THE/RIGHT/PATH"
        )
    return None


def raise_problems(survey):
    """Raise Stop with the first problems and the number of the others."""
    if survey.problems:
        tips = [p for p in survey.problems if p.startswith("To leave")]
        found = [p for p in survey.problems if p not in tips]
        more = [f"... and {len(found) - NAMED} more."] if len(found) > NAMED else []
        raise Stop(
            "\n".join(["The data cannot be read as it is:", *found[:NAMED], *more, *tips[:NAMED]])
        )
