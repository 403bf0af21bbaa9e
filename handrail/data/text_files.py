"""Whatever people have, read as rows of clean text: opened, decoded, and taken out of its format.

`rows` reads one file. It adds to `notes` what had to be done; a file with no notes is clean, and
data.py can read it where it is. `convert` writes the others, clean, into the project.
"""

import codecs
import csv
import html
import json
import re
import shlex
import shutil
import sys
import tarfile
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from importlib.util import find_spec
from itertools import chain, islice, pairwise
from pathlib import Path

from handrail.data import exports
from handrail.project.project import Stop

LOOK = 200_000_000  # bytes that are looked at
LINE = 50_000_000  # characters that a line may have
NAMED = 5  # problems named one by one, before only their number is said
TALK = 4000  # characters: a longer talk becomes several documents

CLEAN = [".txt", ".md", ".jsonl", ".json", ".csv", ".parquet"]  # what data.py reads
SUBTITLES = [".srt", ".vtt", ".ass"]
DOCUMENTS = [".html", ".htm", ".pdf", ".docx", ".epub"]
PACKED = [".gz", ".bz2", ".xz", ".zst"]
ARCHIVES = [".zip", ".tar", ".tgz"]
MARKITDOWN = f'{shlex.quote(sys.executable)} -m pip install "markitdown[docx,pdf]"'

FOREIGN = "[\u0370-\u0e7f]"  # Greek, Cyrillic, Hebrew, Arabic, Thai, ...: no Latin letters
NOWHERE = "\x1f"  # a sign that no text has in it
HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+(:[\w.-]*){0,2}")
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
NUMBER = r"[-+]?[\d.,]+(e[-+]?\d+)?%?"
ID = re.compile(
    rf"{UUID}|{NUMBER}|{exports.TIME}\S*|\w+://\S*|www\.\S+|/\S*/\S*|(?=\S*\d)[\w.:/+=-]{{3,}}|\S+@\S+\.\w+",
    re.I,
)


class Unreadable(Exception):
    """The rest of a file cannot be read; the text says why and how to fix it."""


class Harmless(Unreadable):
    """The file is no text: it is passed over in a folder that holds others."""


class NoRows(Harmless):
    """The file is whole, but it holds no rows."""


# --- opened: archives and compressed files ---


@dataclass(frozen=True)
class Found:
    """A file that is read, under the name that its owner knows."""

    path: Path
    name: str
    size: int
    unpacked: bool = False


def kind_of(file):
    return ".tar" if re.search(r"\.tar\.\w+$", file.name, re.I) else file.suffix.lower()


def opened(source, folder):
    """Yield each file of a source as Found; what is packed is unpacked into `folder`."""
    for number, file in enumerate(local_files(source)):
        name = file.name if file == source else str(file.relative_to(source))
        kind = kind_of(file)
        if kind not in (*ARCHIVES, *PACKED):
            yield Found(file, name, file.stat().st_size)
            continue
        place = folder / f"{number}"
        place.mkdir(parents=True)
        try:
            if kind == ".zip":
                zipfile.ZipFile(file).extractall(place)
            elif kind in ARCHIVES:
                with tarfile.open(file) as archive:
                    archive.extractall(place, filter="data")
            else:
                unpack(file, place / file.stem)
        except Exception as error:  # each of these libraries has errors of its own
            raise Unreadable(
                f"{file} cannot be unpacked: {type(error).__name__}: {error}. Is it whole? "
                "Download it again, or unpack it with another program and name the folder."
            ) from error
        for inner in opened(place, folder / f"{number}-inner"):
            yield Found(inner.path, f"{name}/{inner.name}", inner.size, True)


def unpack(file, target):
    """Write the content of a compressed file."""
    from pyarrow import CompressedInputStream

    codec = {".gz": "gzip", ".zst": "zstd", ".bz2": "bz2"}.get(file.suffix.lower())
    if codec is None:
        import lzma

        stream = lzma.open(file)
    else:
        stream = CompressedInputStream(str(file), codec)
    with stream, open(target, "wb") as out:
        shutil.copyfileobj(stream, out, 2**20)


# --- decoded: lines of text ---


def codec_of(file):
    """Return (codec, mixed) of a text file; `mixed`: some of its lines are UTF-8 all the same.

    Raise Harmless for a file that is no text.
    """
    from chardet import detect

    with open(file, "rb") as stream:
        start = stream.read(8192)
    if not start:
        raise Harmless(f"{file}: the file is empty. Remove it, or fill it.")
    found = (detect(start)["encoding"] or "").lower()
    if found.startswith(("utf-16", "utf-32")):
        return found, False
    if not found and b"\0" in start:
        raise Harmless(
            f"{file}: there are null bytes in it, so it is not plain text (a picture, a "
            "program?). Remove it from the data."
        )
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with open(file, "rb") as stream:
            while chunk := stream.read(2**20):
                decoder.decode(chunk)
        decoder.decode(b"", True)
    except UnicodeDecodeError:
        return guessed_codec(file)
    return "utf-8-sig", False


def guessed_codec(file):
    """Return (codec, mixed) of a text that is not UTF-8, without its lines that are.

    A few letters say little, so only codecs of today are tried for them. Where most words of
    another script have Latin letters in them too, the guess was wrong.
    """
    from chardet import EncodingEra, detect

    utf8, others, sample = 0, 0, bytearray()
    with open(file, "rb") as stream:
        for line in stream:
            try:
                utf8 += not line.isascii() and bool(line.decode())
            except UnicodeDecodeError:
                others += 1
                sample += line[: max(0, 100_000 - len(sample))]
            if line.isascii() and len(sample) < 8192:
                sample += line
    few = sum(byte > 127 for byte in sample) < 20
    era = EncodingEra.MODERN_WEB if few else EncodingEra.ALL
    codec = (detect(bytes(sample), encoding_era=era)["encoding"] or "cp1252").lower()
    words = re.findall(rf"\w*{FOREIGN}\w*", sample.decode(codec, errors="replace"))
    if sum(bool(re.search("[A-Za-z]", word)) for word in words) > len(words) / 2:
        codec = "cp1252"
    return codec, utf8 > 0.1 * others


def decoded(file, codec, mixed):
    """Yield the lines of a text file as text."""
    if not mixed:
        with open(file, encoding=codec, errors="replace", newline="") as stream:
            while line := stream.readline(LINE + 1):
                yield line
        return
    with open(file, "rb") as stream:
        while line := stream.readline(LINE + 1):
            try:
                yield line.decode()
            except UnicodeDecodeError:
                yield line.decode(codec, errors="replace")


def lines(file, notes):
    """Yield the lines of a text file as (number, text), decoded; raise Unreadable."""
    codec, mixed = codec_of(file)
    if codec != "utf-8-sig":
        notes.add(f"decoded from {codec}, some lines only" if mixed else f"decoded from {codec}")
    for number, line in enumerate(decoded(file, codec, mixed), start=1):
        if len(line) > LINE:
            raise Unreadable(
                f"{file}, line {number}: longer than {LINE // 1_000_000} MB. Put a line break "
                f"after each paragraph or row; for plain text: \n  fold -s -w 1000 "
                f"{shlex.quote(str(file))} > "
                f"{shlex.quote(str(file.with_name(file.stem + '.folded' + file.suffix)))}"
            )
        if "\0" in line:
            notes.add("null bytes taken out")
            line = line.replace("\0", "")
        yield number, line


# --- rows, one reader for each kind of file: (number, row), adding to `problems` and `notes` ---


def text_rows(file, problems, notes):
    """A line is a row: data.py cuts documents as it likes. Of a phone's chat, a turn is one."""
    numbered = lines(file, notes)
    start = list(islice(numbered, 100))
    if file.suffix == ".md" or not exports.is_stamped([text for _, text in start]):
        for number, text in chain(start, numbered):
            yield number, {"text": text}
        return
    notes.add("a chat, without times and notices")
    turns = exports.read_lines([text for _, text in chain(start, numbered)]) or []
    for number, turn in enumerate(turns):
        new = number and exports.day_of(turn) != exports.day_of(turns[number - 1])
        yield number, {"text": "\n" * new + f"{turn['role']}: {turn['content']}\n"}


def subtitle_rows(file, problems, notes):
    """What is said, without numbers, times and markup; a line that is shown twice comes once."""
    notes.add("subtitles without their time codes")
    before, skipped, new = "", False, True
    for (number, line), (_, after) in pairwise(chain(lines(file, notes), [(0, "")])):
        text = line.strip()
        if file.suffix.lower() == ".ass":
            text = text.split(",", 9)[-1] if text.startswith("Dialogue:") else ""
            text = text.replace("\\N", " ")
        if new and file.suffix.lower() == ".vtt":
            skipped = bool(re.match(r"(WEBVTT|NOTE|STYLE|REGION)\b", text))
        new = not text
        text = html.unescape(re.sub(r"<[^>]*>|\{\\[^}]*\}", "", text)).strip()
        name_of_cue = "-->" in after
        if skipped or not text or name_of_cue or "-->" in text or text == before:
            continue
        before = text
        yield number, {"text": text + ("\n\n" if text[-1] in '.!?…"”' else "\n")}


def document_rows(file, problems, notes):
    """The text of a web page, PDF, Word document or e-book."""
    if find_spec("markitdown") is None:
        raise Harmless(
            f"{file}: to read {file.suffix} files, a package is needed once:\n  {MARKITDOWN}\n"
            "Then type the same command again."
        )
    from markitdown import MarkItDown

    notes.add(f"{file.suffix.lower()} converted to text")
    try:
        text = MarkItDown(enable_plugins=False).convert_local(str(file)).text_content
    except Exception as error:  # each of its converters has errors of its own
        raise Harmless(f"{file}: no text could be taken out ({type(error).__name__}).") from error
    if not text.strip():
        raise Harmless(f"{file}: there is no text in it (a scan has none).")
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if line.strip():
            yield number, {"text": line.rstrip("\n") + "\n\n"}


def json_rows(file, problems, notes):
    """An object a line, a list of objects, or the longest list inside an object."""
    numbered = ((number, text) for number, text in lines(file, notes) if text.strip())
    try:
        first = list(islice(numbered, 2))
    except Unreadable:
        first = []  # one line of more than LINE
    one_a_line = bool(first) and is_object(first[0][1])
    if one_a_line and (len(first) > 1 or file.suffix.lower() != ".json"):
        yield from line_rows(file, chain(first, numbered), problems, notes)
        return
    in_one_piece = not first or first[0][1].strip() == "{" or first[0][1].lstrip()[0] == "["
    if file.suffix.lower() in (".jsonl", ".ndjson") and not in_one_piece:
        yield from line_rows(file, chain(first, numbered), problems, notes)
        return
    if file.suffix.lower() != ".json":
        notes.add("JSON in one piece, not an object a line")
    yield from whole_rows(file, problems, notes)


def is_object(text):
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


def line_rows(file, numbered, problems, notes):
    """All broken lines are collected, so that they can be fixed in one go."""
    broken, shapes, good = [], set(), 0
    for number, text in numbered:
        try:
            row = json.loads(text)
            if "\\u" in text:
                json.dumps(row, ensure_ascii=False).encode()  # half a character fails here
        except json.JSONDecodeError as error:
            place = f"{file}, line {number}, character {error.colno}"
            problems.append(f"{place}: not valid JSON ({error.msg}).")
            broken.append(number)
        except UnicodeEncodeError:
            half = "holds half a character (a lone surrogate such as \\ud800)"
            problems.append(f"{file}, line {number}: {half}.")
            broken.append(number)
        else:
            made = as_row(row, notes)
            if made is not None:
                shapes.add(shape(made))
                good += 1
                yield number, made
            else:
                kind = type(row).__name__
                problems.append(
                    f"{file}, line {number}: {kind} where an object {{...}} is expected."
                )
                broken.append(number)
        if len(broken) == 1000:  # no JSON lines at all
            return
    note_shapes(shapes, notes)
    if good and 0 < len(broken) <= 20:
        command = f"sed -i.bak '{';'.join(f'{n}d' for n in broken)}' {shlex.quote(str(file))}"
        problems.append(
            f"To leave those lines out (the file as it was is kept as .bak):\n  {command}"
        )


def as_row(value, notes):
    """Return a value of JSON as a row: an object, a text, or a list of messages; else None."""
    if isinstance(value, dict):
        return value
    if isinstance(value, str):
        notes.add("a list of texts")
        return {"text": value}
    if isinstance(value, list) and value and all(isinstance(turn, dict) for turn in value):
        notes.add("a list of messages")
        return {"messages": value}
    return None


def shape(row):
    return tuple((name, type(value)) for name, value in row.items())


def note_shapes(shapes, notes):
    """Note what load_dataset cannot read: columns that come and go, or change their type."""
    if len(shapes) > 1:
        notes.add("columns that change from row to row")
    if any(kind in (dict, list) for found in shapes for _, kind in found):
        notes.add("columns with other columns in them")


def whole_rows(file, problems, notes):
    """The rows of a file that is one piece of JSON."""
    codec, mixed = codec_of(file)
    text = "".join(decoded(file, codec, mixed))
    if script := re.match(r"\s*[\w.$]+\s*=\s*(?=[\[{])", text):  # Twitter's window.YTD... = [
        text = text[script.end() :].rstrip().rstrip(";")
        notes.add("the list taken out of a script")
    values, end, text, decoder = [], 0, text.rstrip(), json.JSONDecoder()
    try:
        while end < len(text):
            value, end = decoder.raw_decode(text, re.compile(r"\s*").match(text, end).end())
            values.append(value)
    except json.JSONDecodeError as error:
        raise Unreadable(
            f"{file}, line {error.lineno}, character {error.colno}: not valid JSON ({error.msg}). "
            "Fix that place."
        ) from error
    found = values[0] if len(values) == 1 else values
    if len(values) > 1:
        notes.add("objects one after another")
    if isinstance(found, dict):
        name, found = longest_list(found)
        if not found:
            raise NoRows(f"{file}: no list of objects. Expected is [{{...}}, {{...}}].")
        notes.add(f"the rows taken out of {name!r}" if name else "one object")
    shapes = set()
    for number, value in enumerate(found, start=1):
        row = as_row(value, notes)
        if row is not None:
            shapes.add(shape(row))
            yield number, row
        else:
            kind = type(value).__name__
            problems.append(f"{file}, item {number}: {kind} where an object {{...}} is expected.")
    note_shapes(shapes, notes)


def longest_list(found, name="", depth=4):
    """Return (name, list) of the longest list of objects inside an object, or (name, None).

    An object of objects that are all alike counts as a list, and an object with a long text as
    a row of its own.
    """
    lists, inner = [], [value for value in found.values() if isinstance(value, dict)]
    for key, value in found.items():
        path = f"{name}.{key}" if name else key
        if isinstance(value, list) and value and all(isinstance(row, dict) for row in value):
            lists.append((path, value))
        elif isinstance(value, dict) and depth:
            lists.append(longest_list(value, path, depth - 1))
    if len(inner) > 2 and len(inner) == len(found) and len({tuple(row) for row in inner}) == 1:
        lists.append((name, inner))
    if any(isinstance(value, str) and len(value) > 200 for value in found.values()):
        lists.append((name, [found]))
    return max(
        (pair for pair in lists if pair[1]),
        key=lambda pair: exports.size(pair[1]),
        default=(name, None),
    )


def csv_rows(file, problems, notes):
    """A table as a spreadsheet reads it: separator, heading and blank lines on top are found."""
    csv.field_size_limit(LINE)
    text = lines(file, notes)
    if file.suffix.lower() != ".csv":
        notes.add(f"{file.suffix.lower()} read as a table")
    start = list(islice(text, 200))
    if start and start[0][1].endswith("\r"):
        notes.add("line ends of an old Mac")
    if start and (named := re.fullmatch(r'"?sep=(.)"?\s*', start[0][1])):
        notes.add("the line `sep=` left out")
        sign, start = named[1], start[1:]
    else:
        sign = separator([line for _, line in start])
    if is_one_column([line for _, line in start], sign):
        notes.add("one column, with no quotes around its commas")
        sign = NOWHERE
    elif sign != ",":
        notes.add(f"columns separated by {sign!r}")
    skipped = start[0][0] - 1 if start else 0
    reader = csv.reader((line for _, line in chain(start, text)), delimiter=sign, strict=True)
    try:
        top = list(islice(((reader.line_num + skipped, row) for row in reader), 100))
        head, top = heading(top, notes)
        if not top:
            return
        for number, row in chain(top, ((reader.line_num + skipped, row) for row in reader)):
            if not any(cell.strip() for cell in row):
                continue
            if any(cell.strip() for cell in row[len(head) :]):
                problems.append(
                    f"{file}, line {number}: {len(row)} columns, the first line has {len(head)}. "
                    f'Is a {sign!r} or a line break in a text not inside "quotes"?'
                )
            if len(row) != len(head):
                notes.add("rows filled up to all columns")
            yield number, dict(zip(head, [*row, *[""] * len(head)], strict=False))
    except csv.Error as error:
        raise Unreadable(
            f"{file}, line {reader.line_num + skipped}: {error}. A text with quotes or line breaks "
            'must be inside "...", with its own quotes doubled.'
        ) from error


def is_one_column(start, sign):
    """Return True for one name on top, and below it texts that have a comma or so in them."""
    cells = next(csv.reader(start[1:], delimiter=sign), [])
    plain = bool(start) and re.fullmatch(r'"?\w+"?', start[0].strip())
    return bool(plain) and len(cells) > 1 and any(cell.count(" ") > 2 for cell in cells)


def separator(start):
    """Return the sign that cuts the first lines of a table into columns most evenly."""
    best, found = (0, 0), ","
    for sign in ",;\t|":
        try:
            rows = [row for row in csv.reader(start, delimiter=sign) if any(row)]
        except csv.Error:
            continue
        columns, number = Counter(map(len, rows)).most_common(1)[0] if rows else (1, 0)
        even = round(number / max(1, len(rows)), 2), columns
        if columns > 1 and even > best:
            best, found = even, sign
    return found


def heading(top, notes):
    """Return (names of the columns, rows) of the first rows of a table.

    A title and blank lines above the heading are left out; a heading that is data stays data.
    """
    top = [(number, [cell.strip("\r\n") for cell in row]) for number, row in top]
    columns = max((len(row) for _, row in top), default=0)
    most = max((sum(map(bool, row)) for _, row in top), default=0)
    first = 0
    while first < len(top) - 1:
        row = top[first][1]
        filled = [cell for cell in row if cell.strip()]
        if filled and (most < 2 or len(filled) > 1 or not row[0].strip()):
            break
        first += 1
    if first:
        notes.add("lines above the heading left out")
    names, rows = [cell.strip() for cell in top[first][1]] if top else [], top[first + 1 :]
    if is_data(names):
        notes.add("no names of the columns in the first line, so they are called column1 and so on")
        return [f"column{n + 1}" for n in range(columns)], top[first:]
    while names and not names[-1]:
        names.pop()
    if names != (top[first][1] if top else []):
        notes.add("blanks around names of columns")
    return names, rows


def is_data(names):
    """Return True if what should be names of columns reads like a row of data."""
    sentences = [name for name in names if name.count(" ") > 2 and name[-1] in ".!?…。？！"]
    return bool(sentences) or any(len(name) > 80 or re.fullmatch(NUMBER, name) for name in names)


def parquet_rows(file, problems, notes):
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(file).iter_batches(1000)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except (pyarrow.ArrowException, OSError) as error:
        raise Unreadable(
            f"{file}: not a complete parquet file ({str(error).strip()[:200]}). Download or write "
            "it again."
        ) from error


TABLES = dict.fromkeys([".jsonl", ".json", ".ndjson"], json_rows)
TABLES |= dict.fromkeys([".csv", ".tsv", ".tab"], csv_rows) | {".parquet": parquet_rows}
TEXTS = {".txt": text_rows, ".md": text_rows}
TEXTS |= dict.fromkeys(SUBTITLES, subtitle_rows) | dict.fromkeys(DOCUMENTS, document_rows)
KINDS = [*TEXTS, *TABLES]  # of files that are read, unless settings.toml names others
READERS = TEXTS | TABLES


@cache
def reader(file):
    """Return the reader of a file, by its ending, or, where that says nothing, by its start."""
    found = READERS.get(file.suffix.lower(), text_rows)
    return json_rows if found is text_rows and holds_json(file) else found


def holds_json(file):
    """Return True for JSON lines under another name, and for Twitter's scripts that are a list."""
    with open(file, "rb") as stream:
        start = stream.read(100_000).decode("utf-8-sig", errors="replace")
    if re.match(r"\s*window\.[\w.]+\s*=\s*\[", start):
        return True
    first = [line for line in start.split("\n")[:20] if line.strip()]
    whole = first[:-1] if len(start) == 100_000 else first
    return len(whole) > 1 and all(map(is_object, whole))


def is_table(file):
    return reader(file) in TABLES.values()


def rows(file, problems, notes):
    """Yield (number, row) of one file of any kind; an unknown kind is read as plain text."""
    found = reader(file)
    if found is json_rows and file.suffix.lower() not in TABLES:
        notes.add(f"JSON in a {file.suffix} file")
    return found(file, problems, notes)


# --- which files count ---


def local_files(source):
    """Return the files of a folder, or the one file.

    Hidden files and those of handrail projects are skipped, as in data.py.
    """
    found = sorted(source.rglob("*")) if source.is_dir() else [source]
    seen = []
    for file in found:
        parts = file.relative_to(source).parts
        if not any(part.startswith(".") or part == "__MACOSX" for part in parts):
            seen.append(file)
    projects = {
        file.parent
        for file in seen
        if file.name == "settings.toml" and (file.parent / "out").exists()
    }
    return [file for file in seen if file.is_file() and projects.isdisjoint(file.parents)]


def is_read(file, kinds):
    """Return True for a kind of file that is read, in small or capital letters."""
    named = file.suffix in kinds or file.suffix.lower() in kinds
    return named or file.suffix == ".js" and holds_json(file)


def endings(passed):
    """Return {ending: files} as "3 .pdf, 1 .docx"."""
    common = passed.most_common(5)
    return ", ".join(f"{number:,} {ending or '(no ending)'}" for ending, number in common)


def count_endings(files):
    """Return {ending: number} of files."""
    return Counter(file.suffix for file in files)


def is_text(file):
    """Return True if a file is plain text in any encoding."""
    try:
        codec_of(file)
        return True
    except (Harmless, OSError):
        return False


def no_files(source):
    """Return the Stop for a source in which nothing can be read."""
    kinds = f"I read {' '.join([*KINDS, *ARCHIVES, *PACKED])}."
    if source.is_file():
        return Stop(f"{source}: this is no text, and no kind of file that is read. {kinds}")
    files = local_files(source)
    there = endings(count_endings(files)) or "nothing"
    texts = [file.suffix for file in files if is_text(file)]
    fix = "Save them as .txt, .docx or .csv first." if files else ""
    if texts:
        fix = as_text([ending for ending, _ in Counter(texts).most_common(5)])
    return Stop(f"{source}: no file in this folder can be read. {kinds} There is: {there}. {fix}")


def as_text(endings):
    """Say how files of other endings are read."""
    return (
        "If that is plain text, say so in settings.toml of the project, with this as its only line "
        f"`kinds`: kinds = {json.dumps(endings)}"
    )


def locate(project, source, flag=None):
    """Return the path of a local source, or None for a hub data set.

    Raise Stop, with the flag that named it, when it can be neither.
    """
    path = project.folder / Path(source).expanduser()
    path = path.resolve() if path.exists() else path
    if path.exists():
        return path
    kinds = (*KINDS, *ARCHIVES, *PACKED)
    if not HUB_NAME.fullmatch(source) or Path(source.split(":")[0]).suffix in kinds:
        flag = flag or ("answers" if source == project.settings.get("answers") else "data")
        raise Stop(
            f"There is no file or folder {source!r} (looked in {Path.cwd()} and {project.folder}), "
            "and it is not the name of a hub data set (owner/name). Check it with `ls`, then run "
            f"the same command with --{flag} THE/RIGHT/PATH"
        )
    return None


# --- a source as a whole: what is in it, and is it clean? ---


@dataclass
class Survey:
    """What was seen in a source: how much, and for every column how many rows hold text and how
    long it is.
    """

    bytes: int = 0  # of the whole source, as far as known
    seen: int = 0
    whole: bool = True
    tables: bool = True  # rows and columns, not only plain text
    pieces: bool = False  # plain text among it, which data.py cuts as it likes
    rows: int = 0
    filled: Counter = field(default_factory=Counter)  # column: rows with text in it
    characters: Counter = field(default_factory=Counter)  # column: length of its texts, ids apart
    derived: set = field(default_factory=set)  # columns that are made of others
    columns: dict = field(default_factory=dict)  # name, in order: the files where it holds text
    problems: list = field(default_factory=list)
    read: dict = field(default_factory=dict)  # Found: its notes
    passed: Counter = field(default_factory=Counter)  # files that were not read, by ending
    empty: list = field(default_factory=list)  # names of files
    harmless: list = field(default_factory=list)  # why others hold no text
    path: Path = None
    no_rows: int = 0  # whole .json files that are no tables: settings of some program, say

    @property
    def files(self):
        return len(self.read)

    @property
    def notes(self):
        """Return what had to be done, as lines of text."""
        number = Counter(note for notes in self.read.values() for note in notes)
        return [f"{note}: {n:,} file{'s' * (n > 1)}" for note, n in number.items()]


def is_id(text):
    """Return True for a number, date, link, name of a file and the like: no text to learn from."""
    return bool(ID.fullmatch(text.strip()))


def plain(row):
    """Return a row with texts in its columns: a talk is written out, objects are opened."""
    if not any(isinstance(value, (list, dict)) or exports.is_json(value) for value in row.values()):
        if "sender_name" in row:  # of Facebook, or of Instagram
            return {n: exports.repaired(v) if isinstance(v, str) else v for n, v in row.items()}
        return row
    if turns := exports.talk(row):
        return {"text": exports.written(turns)}
    found = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": part for inner, part in plain(value).items()}
        else:
            found[name] = value
            if isinstance(value, list):
                parts = exports.joined(value)
                texts = (text for text in exports.texts_in(value) if not is_id(text))
                found[name] = parts if parts is not None else "\n".join(texts)
    return found


def add(survey, row, file=None):
    """Count one row, of a file."""
    survey.rows += 1
    is_text_file = file and not is_table(file.path)  # what looks like a talk in it is text, too
    for name, value in (row if is_text_file else plain(row)).items():
        holding = survey.columns.setdefault(name, set())
        if value is not row.get(name):
            survey.derived.add(name)
        if isinstance(value, str) and value.strip():
            survey.seen += len(value)
            survey.filled[name] += 1
            holding.add(file)
            if not is_id(value):
                survey.characters[name] += len(value)
        else:
            survey.seen += 8


def survey_files(source, kinds, folder):
    """Return the Survey of a local source, unpacked into `folder`; problems are collected."""
    survey, found = Survey(path=source), []
    try:
        for file in opened(source, folder):
            single = file.path == source and (is_read(source, kinds) or is_text(source))
            if not file.size and not single:
                survey.empty.append(file.name)
            elif single or is_read(file.path, kinds):
                found.append(file)
            else:
                survey.passed[file.path.suffix] += 1
    except Unreadable as error:
        survey.problems.append(str(error))
    survey.bytes = sum(file.size for file in found)
    for file in found:
        if survey.seen > LOOK:
            survey.read[file], survey.whole = {"not looked at"}, False
            continue
        survey_file(survey, file, kinds)
    if not survey.read and not survey.problems:
        survey.problems = survey.harmless
    survey.tables = any(is_table(file.path) for file in survey.read)
    survey.pieces = any(not is_table(file.path) for file in survey.read)
    return survey


def survey_file(survey, file, kinds):
    """Add one file to the survey, up to LOOK; of KINDS, data.py reads only what is CLEAN."""
    known = {*CLEAN, *kinds}.difference(set(KINDS).difference(CLEAN))
    notes = {"unpacked"} if file.unpacked else set()
    try:
        for _, row in rows(file.path, survey.problems, notes):
            if is_table(file.path) or row["text"].strip():
                add(survey, row, file)
            if survey.seen > LOOK:
                survey.whole = False
                break
    except Harmless as error:
        survey.no_rows += isinstance(error, NoRows)
        survey.harmless.append(named(error, file))
        survey.passed[file.path.suffix] += 1
        return
    except Unreadable as error:
        survey.problems.append(named(error, file))
    except OSError as error:
        survey.problems.append(
            f"{file.path}: cannot be opened ({error.strerror}). `ls -l` shows who may read it."
        )
    if file.path.suffix not in known and not notes:
        kind = "a table" if is_table(file.path) else "plain text"
        notes.add(f"{file.path.suffix or 'no ending'} read as {kind}")
    survey.read[file] = notes


def named(error, file):
    """Return an error with the name that the owner of an unpacked file knows."""
    return str(error).replace(str(file.path), file.name) if file.unpacked else str(error)


def raise_problems(problems):
    """Raise Stop with the first problems and the number of the others."""
    if problems:
        tips = [problem for problem in problems if problem.startswith("To leave")]
        found = [problem for problem in problems if problem not in tips]
        more = [f"... and {len(found) - NAMED} more."] if len(found) > NAMED else []
        head = "The data cannot be read as it is:"
        raise Stop("\n".join([head, *found[:NAMED], *more, *tips[:NAMED]]))


# --- written clean into the project ---


def convert(survey, column, target):
    """Write all documents of a surveyed source into the folder `target`, as files that data.py can
    read; return how many rows of tables have become documents.
    """
    part, number = target.with_name(target.name + ".part"), 0
    shutil.rmtree(part, ignore_errors=True)
    for file, notes in survey.read.items():
        place = part / file.name
        place.parent.mkdir(parents=True, exist_ok=True)
        if is_table(file.path):
            place = place.with_name(place.name.removesuffix(".jsonl") + ".jsonl")
            with open(place, "w", encoding="utf-8") as out:
                for text in documents(file, column):
                    out.write(json.dumps({column: text}, ensure_ascii=False) + "\n")
                    number += 1
        elif not notes:
            shutil.copyfile(file.path, place)
        else:
            place = place.with_name(place.name.removesuffix(".txt") + ".txt")
            with open(place, "w", encoding="utf-8") as out:
                for _, row in rows(file.path, [], set()):
                    text = row["text"].rstrip("\r\n")
                    out.write(text + "\n" * max(1, row["text"].count("\n") - text.count("\n")))
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return number


def documents(file, column):
    """Yield the texts in a column of a table; a long talk is cut where somebody else speaks."""
    for _, row in rows(file.path, [], set()):
        text = plain(row).get(column)
        if isinstance(text, (int, float)) and not isinstance(text, bool):
            text = str(text)
        if not isinstance(text, str) or not text.strip():
            continue
        if len(text) < 2 * TALK or column in row:
            yield text
            continue
        piece = ""
        for turn in text.split("\n\n"):
            piece += f"{turn}\n\n"
            if len(piece) >= TALK:
                yield piece.strip()
                piece = ""
        if piece.strip():
            yield piece.strip()


# --- a data set of the hub ---


def survey_hub(source, rows):
    """Return the Survey of the first rows of a hub data set, or raise Stop with what its owner has
    to do.
    """
    survey = Survey(whole=False)
    try:
        for row in islice(rows, 1000):
            add(survey, row)
    except Exception as error:  # `datasets` has a class for each of many reasons
        raise Stop(hub_fault(source, error)) from error
    return survey


def hub_fault(source, error):
    """Return what to do about a hub data set that could not be opened."""
    name, text = source.split(":")[0], f"{type(error).__name__}: {error}"
    page = f"https://huggingface.co/datasets/{name}"
    head = (
        f"The data set {source} could not be opened. There is no file or folder of that name here "
        "either.\n"
    )
    again = "Then run the same command again."
    if "OfflineMode" in text:
        return (
            f"{head}HF_HUB_OFFLINE is set, so nothing is downloaded. Allow it: "
            f"unset HF_HUB_OFFLINE   {again}"
        )
    if re.search("gated|401|403|private|authenticated", text):
        return (
            f"{head}You need to be logged in for it. Accept its conditions at {page} and log in: "
            f"hf auth login\n{again}"
        )
    if "Couldn't reach" in text or isinstance(error, ConnectionError):
        return (
            f"{head}The hub cannot be reached. Check the network: "
            f"curl -I https://huggingface.co   {again}"
        )
    if re.search("config|split", text, re.I) and "DatasetNotFound" not in text:
        return f"{head}{str(error)[:600]}\nName one of them: --data {name}:CONFIG:SPLIT"
    return (
        f"{head}{str(error)[:300]}\nLook for its exact name at {page}. If it is private, log in "
        "first: hf auth login"
    )
