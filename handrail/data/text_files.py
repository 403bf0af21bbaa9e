"""Whatever people have, read as rows of clean text: opened, decoded, and taken out of its format.

`rows` reads one file. It adds to `notes` what had to be done; a file with no notes is clean, and
data.py can read it where it is. `convert` writes the others, clean, into the project. What is said
about data that cannot be read is in problems.md.
"""

import bz2
import csv
import email.policy
import gzip
import html
import json
import lzma
import mailbox
import re
import shlex
import shutil
import sys
import tarfile
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from email import message_from_binary_file, message_from_bytes
from functools import cache, partial
from importlib.util import find_spec
from itertools import chain, islice, pairwise
from pathlib import Path

from handrail.data import exports
from handrail.project.project import Stop
from handrail.project.words import told

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
    rf"{UUID}|{NUMBER}|{exports.TIME}\S*|\w+://\S*|www\.\S+|/\S*/\S*|"
    r"(?=\S*\d)[\w.:/+=-]{3,}|\S+@\S+\.\w+",
    re.I,
)
EXTRAS = re.compile(  # what people add to JSON: comments, and a comma after the last value
    r'("(?:[^"\\]|\\.)*")|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*\n|/\*.*?\*/)*[\]}])', re.S
)

PROBLEMS = Path(__file__).with_name("problems.md")
problem = partial(told, PROBLEMS)


class Unreadable(Exception):
    """The rest of a file cannot be read; the text says why and how to fix it."""


class Harmless(Unreadable):
    """The file holds no text or no rows: it is passed over in a folder that holds others."""


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
        if kind_of(file) not in (*ARCHIVES, *PACKED):
            yield Found(file, name, file.stat().st_size)
            continue
        place = folder / f"{number}"
        place.mkdir(parents=True)
        try:
            unpack(file, place)
        except Exception as error:  # each of these libraries has errors of its own
            why = f"{type(error).__name__}: {error}"
            raise Unreadable(problem("cannot be unpacked", file=file, error=why)) from error
        for inner in opened(place, folder / f"{number}-inner"):
            yield Found(inner.path, f"{name}/{inner.name}", inner.size, True)


def unpack(file, place):
    """Unpack an archive or a compressed file into the folder `place`."""
    kind = kind_of(file)
    if kind == ".zip":
        zipfile.ZipFile(file).extractall(place)
    elif kind in ARCHIVES:
        with tarfile.open(file) as archive:
            archive.extractall(place, filter="data")
    else:
        from pyarrow import CompressedInputStream

        zstd = partial(CompressedInputStream, compression="zstd")
        read = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}.get(kind, zstd)
        with read(str(file)) as stream, open(place / file.stem, "wb") as out:
            shutil.copyfileobj(stream, out, 2**20)


# --- decoded: lines of text ---


def codec_of(file):
    """Return (codec, mixed) of a text file; `mixed`: some of its lines are UTF-8 all the same.

    Raise Harmless for a file that is no text, Unreadable for one that may not be opened.
    """
    from chardet import detect

    try:
        with open(file, "rb") as stream:
            start = stream.read(8192)
    except OSError as error:
        raise Unreadable(problem("cannot be opened", file=file, reason=error.strerror)) from error
    if not start:
        raise Harmless(problem("empty file", file=file))
    found = (detect(start)["encoding"] or "").lower()
    if found.startswith(("utf-16", "utf-32")):
        return found, False
    if not found and b"\0" in start:
        raise Harmless(problem("no text", file=file))
    try:
        with open(file, encoding="utf-8") as text:
            while text.read(2**20):
                pass
    except UnicodeDecodeError:
        return guessed_codec(file)
    return "utf-8-sig", False


def guessed_codec(file):
    """Return (codec, mixed) of a text that is not UTF-8, without its lines that are.

    A few letters say little, so only codecs of today are tried for them. Where most words of
    another script have Latin letters in them too, the guess was wrong.
    """
    from chardet import EncodingEra, detect

    with open(file, "rb") as stream:
        found = stream.readlines()
    others = [line for line in found if not is_utf8(line)]
    plain = [line for line in found if line.isascii()]
    sample = b"".join(others)[:100_000] + b"".join(plain)[:8192]
    few = sum(byte > 127 for byte in sample) < 20
    era = EncodingEra.MODERN_WEB if few else EncodingEra.ALL
    codec = (detect(sample, encoding_era=era)["encoding"] or "cp1252").lower()
    words = re.findall(rf"\w*{FOREIGN}\w*", sample.decode(codec, errors="replace"))
    if sum(bool(re.search("[A-Za-z]", word)) for word in words) > len(words) / 2:
        codec = "cp1252"
    return codec, len(found) - len(plain) > 1.1 * len(others)


def is_utf8(line):
    try:
        line.decode()
        return True
    except UnicodeDecodeError:
        return False


def decoded(file, codec, mixed):
    """Yield the lines of a text file as text."""
    if not mixed:
        with open(file, encoding=codec, errors="replace", newline="") as stream:
            while line := stream.readline(LINE + 1):
                yield line
        return
    with open(file, "rb") as stream:
        while line := stream.readline(LINE + 1):
            yield line.decode("utf-8" if is_utf8(line) else codec, errors="replace")


def lines(file, notes):
    """Yield the lines of a text file as (number, text), decoded; raise Unreadable."""
    codec, mixed = codec_of(file)
    if codec != "utf-8-sig":
        notes.add(f"decoded from {codec}, some lines only" if mixed else f"decoded from {codec}")
    for number, line in enumerate(decoded(file, codec, mixed), start=1):
        if len(line) > LINE:
            folded = shlex.quote(str(file.with_name(f"{file.stem}.folded{file.suffix}")))
            named = {"file": file, "number": number, "most": LINE // 1_000_000}
            command = {"quoted": shlex.quote(str(file)), "folded": folded}
            raise Unreadable(problem("endless line", **named, **command))
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
    kind = file.suffix.lower()
    if find_spec("markitdown") is None:
        raise Harmless(problem("documents", file=file, kind=kind, command=MARKITDOWN))
    from markitdown import MarkItDown

    notes.add(f"{kind} converted to text")
    try:
        text = MarkItDown(enable_plugins=False).convert_local(str(file)).text_content
    except Exception as error:  # each of its converters has errors of its own
        why = type(error).__name__
        raise Harmless(problem("no text taken out", file=file, error=why)) from error
    if not text.strip():
        raise Harmless(problem("scan", file=file))
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            yield number, {"text": line + "\n\n"}


def json_rows(file, problems, notes):
    """An object a line, a list of objects, or the longest list inside an object."""
    numbered = ((number, text) for number, text in lines(file, notes) if text.strip())
    try:
        start = list(islice(numbered, 2))
    except Unreadable:
        start = []  # one line of more than LINE
    if is_one_piece(file, start):
        unit, values = "item", enumerate(whole_values(file, notes), start=1)
    else:
        unit, values = "line", line_values(file, chain(start, numbered), problems)
    shapes = set()
    for number, value in values:
        row = as_row(value, notes)
        if row is None:
            about = {"unit": unit, "number": number, "kind": type(value).__name__}
            problems.append(problem("no object", file=file, **about))
            continue
        shapes.add(tuple((name, type(cell)) for name, cell in row.items()))
        yield number, row
    if len(shapes) > 1:  # load_dataset cannot read this, nor what comes next
        notes.add("columns that change from row to row")
    if any(kind in (dict, list) for found in shapes for _, kind in found):
        notes.add("columns with other columns in them")


def is_one_piece(file, start):
    """Return True for JSON in one piece, False for an object a line, by its first lines."""
    first = start[0][1].strip() if start else "["
    if file.suffix.lower() in (".jsonl", ".ndjson"):
        return first == "{" or first[0] == "["
    return len(start) < 2 or not is_object(first)


def is_object(text):
    try:
        return isinstance(json.loads(text), dict)
    except json.JSONDecodeError:
        return False


def line_values(file, numbered, problems):
    """All broken lines are collected, so that they can be fixed in one go."""
    broken, good = [], False
    for number, text in numbered:
        try:
            value = json.loads(text)
            if "\\u" in text:
                json.dumps(value, ensure_ascii=False).encode()  # half a character fails here
        except ValueError as error:
            kind = "half a character" if isinstance(error, UnicodeError) else "broken line"
            problems.append(problem(kind, file=file, number=number, error=error))
            broken.append(f"{number}d")
            if len(broken) == 1000:  # no JSON lines at all
                return
            continue
        good = True
        yield number, value
    if good and 0 < len(broken) <= 20:
        command = {"lines": ";".join(broken), "quoted": shlex.quote(str(file))}
        problems.append(problem("leave out lines", **command))


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


def whole_values(file, notes):
    """Return the values of a file that is one piece of JSON, or several, one after another."""
    if file.suffix.lower() != ".json":
        notes.add("JSON in one piece, not an object a line")
    text = "".join(decoded(file, *codec_of(file))).rstrip()
    if script := re.match(r"\s*[\w.$]+\s*=\s*(?=[\[{])", text):  # Twitter's window.YTD... = [
        text = text[script.end() :].rstrip(";")
        notes.add("the list taken out of a script")
    values = json_values(file, text, notes)
    if len(values) != 1:
        notes.add("objects one after another")
        return values
    found = values[0]
    if isinstance(found, dict):
        name, found = longest_list(found)
        if not found:
            raise Harmless(problem("no rows", file=file))
        notes.add(f"the rows taken out of {name!r}" if name else "one object")
    return found


def json_values(file, text, notes):
    """Return all values in a text; where that fails, without comments and last commas."""
    plain = EXTRAS.sub(lambda found: found[1] or "", text)
    try:
        return values_in(text)
    except json.JSONDecodeError as error:
        try:
            found = values_in(plain)
        except json.JSONDecodeError:
            raise Unreadable(problem("broken JSON", file=file, error=error)) from error
    notes.add("JSON with comments or a comma too many")
    return found


def values_in(text):
    found, end, decoder, blank = [], 0, json.JSONDecoder(), re.compile(r"\s*")
    while end < len(text):
        value, end = decoder.raw_decode(text, blank.match(text, end).end())
        found.append(value)
    return found


def longest_list(found, name="", depth=4):
    """Return (name, list) of the longest list of objects inside an object, or (name, None).

    An object of objects that are all alike counts as a list, and an object with a long text as
    a row of its own.
    """
    lists, inner = [(name, None)], [value for value in found.values() if isinstance(value, dict)]
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
    return max(lists, key=lambda pair: exports.size(pair[1]))


def csv_rows(file, problems, notes):
    """A table as a spreadsheet reads it: separator, heading and blank lines on top are found."""
    csv.field_size_limit(LINE)
    text = (line for _, line in lines(file, notes))
    start = list(islice(text, 200))
    sign = separator(start, notes)
    reader = csv.reader(chain(start, text), delimiter=sign, strict=True)
    numbered = ((reader.line_num, row) for row in reader)
    try:
        top = list(islice(numbered, 100))
        names, top = heading(top, notes)
        for number, row in chain(top, numbered):
            if not any(cell.strip() for cell in row):
                continue
            if any(cell.strip() for cell in row[len(names) :]):
                about = {"cells": len(row), "names": len(names), "sign": sign}
                problems.append(problem("too many columns", file=file, number=number, **about))
            if len(row) != len(names):
                notes.add("rows filled up to all columns")
            yield number, dict(zip(names, [*row, *[""] * len(names)], strict=False))
    except csv.Error as error:
        place = {"file": file, "number": reader.line_num}
        raise Unreadable(problem("broken table", **place, error=error)) from error


def separator(start, notes):
    """Return the sign that cuts the first lines of a table into columns most evenly.

    A line `sep=;` names it, and is made blank. One name on top and below it texts with a comma or
    so in them are one column.
    """
    if start and start[0].endswith("\r"):
        notes.add("line ends of an old Mac")
    if start and (named := re.fullmatch(r'"?sep=(.)"?\s*', start[0])):
        start[0] = "\n"
        return named[1]
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
    below = next(csv.reader(start[1:], delimiter=found), [])
    one_name = start and re.fullmatch(r'"?\w+"?', start[0].strip())
    if one_name and len(below) > 1 and any(cell.count(" ") > 2 for cell in below):
        notes.add("one column, with no quotes around its commas")
        return NOWHERE
    if found != ",":
        notes.add(f"columns separated by {found!r}")
    return found


def heading(top, notes):
    """Return (names of the columns, rows) of the first rows of a table, [(number, cells)].

    A title and blank lines above the heading are left out; a heading that is data stays data.
    """
    cells = [row for _, row in top]
    most = max((sum(map(bool, row)) for row in cells), default=0)
    first = next((n for n, row in enumerate(cells[:-1]) if is_heading(row, most)), len(cells) - 1)
    if first > 0:
        notes.add("lines above the heading left out")
    names = [cell.strip() for cell in cells[first]] if cells else []
    if is_data(names):
        notes.add("no names of the columns in the first line, so they are called column1 and so on")
        return [f"column{n + 1}" for n in range(max(map(len, cells)))], top[first:]
    while names and not names[-1]:
        names.pop()
    if cells and names != cells[first]:
        notes.add("blanks around names of columns")
    return names, top[first + 1 :]


def is_heading(row, most):
    """Return True for a row with names: more than the one text on the left that a title is."""
    filled = [cell for cell in row if cell.strip()]
    return bool(filled) and (most < 2 or len(filled) > 1 or not row[0].strip())


def is_data(names):
    """Return True if what should be names of columns reads like a row of data."""
    sentences = [name for name in names if name.count(" ") > 2 and name[-1] in ".!?…。？！"]
    return bool(sentences) or any(len(name) > 80 or re.fullmatch(NUMBER, name) for name in names)


def mail_rows(file, problems, notes):
    """A mail is a row: its words, without headers, attachments, signature and what it answers."""
    parser = partial(message_from_binary_file, policy=email.policy.default)
    if file.suffix.lower() == ".eml":
        mails = [message_from_bytes(file.read_bytes(), policy=email.policy.default)]
    else:
        mails = mailbox.mbox(file, factory=parser, create=False)
    notes.add("mails, without headers, attachments and what they answer")
    for number, mail in enumerate(mails, start=1):
        body = mail.get_body(("plain", "html"))
        try:
            text = body.get_content() if body else ""
        except (LookupError, ValueError):  # a character set that nobody knows
            continue
        if body and body.get_content_subtype() == "html":
            text = html.unescape(re.sub(r"(?s)<(style|script|head)\b.*?</\1>|<[^>]*>", "", text))
        text = re.split(r"(?m)^-- ?$", text.replace("\r\n", "\n"))[0]
        text = re.sub(r"(?m)^[^\n]*:\n+(?=>)|^>.*\n?", "", text)
        yield number, {"text": re.sub(r"\n{3,}", "\n\n", text).strip()}


def parquet_rows(file, problems, notes):
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(file).iter_batches(1000)
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), start=1)
    except (pyarrow.ArrowException, OSError) as error:
        why = str(error).strip()
        raise Unreadable(problem("broken parquet", file=file, error=why)) from error


TABLES = dict.fromkeys([".jsonl", ".json", ".ndjson"], json_rows)
TABLES |= dict.fromkeys([".csv", ".tsv", ".tab"], csv_rows) | {".parquet": parquet_rows}
TABLES |= dict.fromkeys([".mbox", ".eml"], mail_rows)
TEXTS = {".txt": text_rows, ".md": text_rows}
TEXTS |= dict.fromkeys(SUBTITLES, subtitle_rows) | dict.fromkeys(DOCUMENTS, document_rows)
READERS = TEXTS | TABLES
KINDS = list(READERS)  # of files that are read, unless settings.toml names others
ALL_KINDS = [*KINDS, *ARCHIVES, *PACKED]


@cache
def reader(file):
    """Return the reader of a file, by its ending, or, where that says nothing, by its start."""
    found = READERS.get(file.suffix.lower(), text_rows)
    return json_rows if found is text_rows and holds_json(file) else found


def holds_json(file):
    """Return True for JSON lines under another name, and for Twitter's scripts that are a list."""
    try:
        with open(file, "rb") as stream:
            start = stream.read(100_000).decode("utf-8-sig", errors="replace")
    except OSError:
        return False
    if re.match(r"\s*window\.[\w.]+\s*=\s*\[", start):
        return True
    first = [line for line in start.split("\n")[:20] if line.strip()]
    whole = first[:-1] if len(start) == 100_000 else first
    return len(whole) > 1 and all(map(is_object, whole))


def is_table(file):
    return reader(file) in TABLES.values()


def rows(file, problems, notes):
    """Yield (number, row) of one file of any kind; an unknown kind is read as plain text.

    Raise Unreadable where the file cannot be read any further.
    """
    read = reader(file)
    if read is json_rows and file.suffix.lower() not in TABLES:
        notes.add(f"JSON in a {file.suffix} file")
    return read(file, problems, notes)


def rows_in(file, problems, notes):
    """Yield (number, row) of a Found; one that was unpacked is named as its owner knows it, and no
    command for the copy is advised.
    """
    own, hidden, known = [], str(file.path), file.name if file.unpacked else str(file.path)
    try:
        yield from rows(file.path, own, notes)
    except Unreadable as error:
        raise type(error)(str(error).replace(hidden, known)) from error
    finally:
        own = [text for text in own if not (file.unpacked and text.startswith("To leave"))]
        problems += [text.replace(hidden, known) for text in own]


# --- which files count ---


def local_files(source):
    """Return the files of a folder, or the one file.

    Hidden files and those of handrail projects are skipped, as in data.py.
    """
    if not source.is_dir():
        return [source]
    found = []
    for file in sorted(source.rglob("*")):
        inside = file.relative_to(source)
        hidden = any(part.startswith(".") or part == "__MACOSX" for part in inside.parts)
        if file.is_file() and not hidden and not in_project(source, inside):
            found.append(file)
    return found


def in_project(source, inside):
    folders = [source / up for up in inside.parents[:-1]]
    return any((up / "settings.toml").exists() and (up / "out").exists() for up in folders)


def is_read(file, kinds):
    """Return True for a kind of file that is read, in small or capital letters."""
    named = file.suffix in kinds or file.suffix.lower() in kinds
    return named or file.suffix == ".js" and holds_json(file)


def endings(passed):
    """Return {ending: files} as "3 .pdf, 1 .docx"."""
    common = passed.most_common(5)
    return ", ".join(f"{number:,} {ending or '(no ending)'}" for ending, number in common)


def some(names, between="; ", most=NAMED):
    """Return the first of some names as text, and how many more there are."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return between.join(names[:most]) + more


def is_text(file):
    """Return True if a file is plain text in any encoding."""
    try:
        codec_of(file)
        return True
    except Unreadable:
        return False


def no_files(source):
    """Return the Stop for a source in which nothing can be read."""
    kinds = " ".join(ALL_KINDS)
    if source.is_file():
        return Stop(problem("no kind of file", source=source, kinds=kinds))
    files = local_files(source)
    texts = Counter(file.suffix for file in files if is_text(file))
    there = endings(Counter(file.suffix for file in files)) or "nothing"
    fix = problem("no kind of text" if files else "an empty folder")
    if texts:
        fix = as_text([ending for ending, _ in texts.most_common(5)])
    return Stop(problem("no files", source=source, kinds=kinds, there=there, fix=fix))


def as_text(endings):
    """Say how files of other endings are read."""
    return problem("as text", endings=json.dumps(endings))


def locate(project, source, flag=None):
    """Return the path of a local source, or None for a hub data set.

    Raise Stop, with the flag that named it, when it can be neither.
    """
    path = project.folder / Path(source).expanduser()
    if path.exists():
        return path.resolve()
    if HUB_NAME.fullmatch(source) and Path(source.split(":")[0]).suffix not in ALL_KINDS:
        return None
    flag = flag or ("answers" if source == project.settings.get("answers") else "data")
    places = f"{Path.cwd()} and {project.folder}"
    raise Stop(problem("not there", source=source, places=places, flag=flag))


# --- a source as a whole: what is in it, and is it clean? ---


@dataclass
class Survey:
    """What was seen in a source: how much, and for every column how many rows hold text and how
    long it is.
    """

    path: Path = None
    bytes: int = 0  # of the whole source, as far as known
    seen: int = 0
    whole: bool = True
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

    @property
    def files(self):
        return len(self.read)

    @property
    def tables(self):
        """Return how many of the files are tables; the others are plain text."""
        return sum(is_table(file.path) for file in self.read)

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
    if turns := exports.talk(row):
        return {"text": exports.written(turns)}
    found = {}
    for name, value in row.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": part for inner, part in plain(value).items()}
        elif isinstance(value, list):
            parts = exports.joined(value)
            texts = [text for text in exports.texts_in(value) if not is_id(text)]
            found[name] = "\n".join(texts) if parts is None else parts
        else:
            found[name] = exports.repaired(value)
    return found


def add(survey, row, file=None):
    """Count one row, of a file."""
    survey.rows += 1
    is_text_file = file and not is_table(file.path)  # what looks like a talk in it is text, too
    for name, value in (row if is_text_file else plain(row)).items():
        holding = survey.columns.setdefault(name, set())
        if value is not row.get(name):
            survey.derived.add(name)
        if not isinstance(value, str) or not value.strip():
            survey.seen += 8
            continue
        survey.seen += len(value)
        survey.filled[name] += 1
        holding.add(file)
        if not is_id(value):
            survey.characters[name] += len(value)


def survey_files(source, kinds, folder):
    """Return the Survey of a local source, unpacked into `folder`; problems are collected."""
    survey, found = Survey(source), []
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
        survey_file(survey, file, kinds)
    if not survey.read and not survey.problems:
        survey.problems = survey.harmless
    return survey


def survey_file(survey, file, kinds):
    """Add one file to the survey, up to LOOK; of KINDS, data.py reads only what is CLEAN."""
    if survey.seen > LOOK:
        survey.read[file], survey.whole = {"not looked at"}, False
        return
    notes, table = {"unpacked"} if file.unpacked else set(), is_table(file.path)
    try:
        for _, row in rows_in(file, survey.problems, notes):
            if table or row["text"].strip():
                add(survey, row, file)
            if survey.seen > LOOK:
                survey.whole = False
                break
    except Harmless as error:
        survey.harmless.append(str(error))
        survey.passed[file.path.suffix] += 1
        return
    except Unreadable as error:
        survey.problems.append(str(error))
    known = {*CLEAN, *kinds}.difference(set(KINDS).difference(CLEAN))
    if file.path.suffix not in known and not notes:
        notes.add(f"{file.path.suffix or 'no ending'} read as {'a table' if table else 'text'}")
    survey.read[file] = notes


def raise_problems(problems):
    """Raise Stop with the first problems and the number of the others."""
    if problems:
        tips = [text for text in problems if text.startswith("To leave")]
        found = [text for text in problems if text not in tips]
        more = [f"... and {len(found) - NAMED} more."] if len(found) > NAMED else []
        raise Stop("\n".join([problem("problems"), *found[:NAMED], *more, *tips[:NAMED]]))


# --- written clean into the project ---


def convert(survey, column, target):
    """Write all documents of a surveyed source into the folder `target`, as files that data.py can
    read; return how many rows of tables have become documents.
    """
    part, number = target.with_name(target.name + ".part"), 0
    shutil.rmtree(part, ignore_errors=True)
    for file, notes in survey.read.items():
        table = is_table(file.path)
        ending = ".jsonl" if table else ".txt"
        place = part / (file.name.removesuffix(ending) + ending)
        place.parent.mkdir(parents=True, exist_ok=True)
        if not table and not notes:
            shutil.copyfile(file.path, part / file.name)
            continue
        with open(place, "w", encoding="utf-8") as out:
            for text in documents(file, column) if table else plain_lines(file):
                out.write(json.dumps({column: text}, ensure_ascii=False) + "\n" if table else text)
                number += table
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)
    return number


def plain_lines(file):
    """Yield the lines of a text file, with line ends as everywhere else."""
    for _, row in rows(file.path, [], set()):
        text = row["text"].rstrip("\r\n")
        yield text + "\n" * max(1, row["text"].count("\n") - text.count("\n"))


def documents(file, column):
    """Yield the texts in a column of a table; a long talk is cut where somebody else speaks."""
    for _, row in rows(file.path, [], set()):
        text = plain(row).get(column)
        if isinstance(text, (int, float)) and not isinstance(text, bool):
            text = str(text)
        if not isinstance(text, str) or not text.strip():
            continue
        whole = len(text) < 2 * TALK or column in row
        yield from [text] if whole else pieces(text)


def pieces(text):
    """Yield a long talk in pieces of about TALK characters."""
    piece = ""
    for turn in text.split("\n\n"):
        piece += f"{turn}\n\n"
        if len(piece) >= TALK:
            yield piece.strip()
            piece = ""
    if piece.strip():
        yield piece.strip()


def write_rows(rows, file):
    """Write rows as JSON lines: under another name first, so that there is never half a file."""
    part = file.with_name(file.name + ".part")
    try:
        with open(part, "w", encoding="utf-8") as out:
            out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    except OSError as error:
        part.unlink(missing_ok=True)
        error.filename = file
        raise
    part.replace(file)


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


FAULTS = {  # what the hub or `datasets` says: what is told in problems.md
    "OfflineMode": "hub: offline",
    "gated|401|403|private|authenticated": "hub: login",
    "Couldn't reach|^ConnectionError": "hub: no network",
    "^(?!DatasetNotFound).*([Cc]onfig|[Ss]plit)": "hub: configuration",
    "": "hub: other",
}


def hub_fault(source, error):
    """Return what to do about a hub data set that could not be opened."""
    name, text = source.split(":")[0], f"{type(error).__name__}: {error}"
    page = f"https://huggingface.co/datasets/{name}"
    kind = next(kind for said, kind in FAULTS.items() if re.search(said, text, re.S))
    about = problem(kind, name=name, page=page, error=str(error)[:600])
    return f"{problem('hub', source=source)}\n{about}"
