"""From your files to documents, and from documents to train and val.

A language model learns what is in its data and nothing else, so look at the
data before you train anything. About one document in twenty is kept back as
*val* (validation): the model never trains on it, so how well it predicts val
is an honest exam.

The trap: if you choose the val documents by position or at random, adding data
later moves some of them into train. The model has then seen the exam. Here the
choice depends only on a document's text, so a document never changes sides,
and exact copies (ignoring spaces at either end) land on the same side.
"""

import zlib
from glob import escape
from pathlib import Path

from datasets import config, load_dataset

from settings import ROOT, refuse

config.HF_UPDATE_DOWNLOAD_COUNTS = False  # or opening a file of yours asks the hub, 0.3 s each
TABLES = {".jsonl": "json", ".json": "json", ".csv": "csv", ".parquet": "parquet"}
PIECE = 4000  # characters: long texts are cut into documents of about this size


def files(source, kinds):
    """Return the files of these kinds in a folder (or the one file), always in the same order.

    Hidden and empty files are skipped, and so are the folders of projects like this one.
    """
    if source.is_file():
        return [source] if source.suffix in kinds else []
    found = []
    for file in sorted(source.rglob("*")):
        inside = file.relative_to(source)
        project = any((source / up / "settings.toml").exists() for up in inside.parents[:-1])
        hidden = any(part.startswith(".") for part in inside.parts)
        if file.suffix in kinds and file.is_file() and not hidden and not project:
            found += [file] if file.stat().st_size else []
    return found


def pieces(file):
    """Yield the documents of a text file: each about PIECE characters, cut at a blank line.

    Where no blank line comes, a document ends after 2 PIECE.
    """
    piece = ""
    with open(file, encoding="utf-8-sig") as text:
        while line := text.readline(2 * PIECE + 1000):  # or a part of a very long one
            piece += line
            if len(piece) >= PIECE and not line.strip() or len(piece) >= 2 * PIECE:
                yield piece
                piece = ""
    yield piece


def rows(source, kinds):
    """Yield each row of a file, a folder, or a hub data set `name[:config[:split]]` as a dict."""
    if not (ROOT / source).exists():
        if Path(source).suffix or source.startswith((".", "/")):
            refuse(f"{ROOT / source} does not exist. Change `data` in settings.toml.")
        name, config, split = (source.split(":") + ["", ""])[:3]
        yield from load_dataset(name, config or None, split=split or "train", streaming=True)
        return
    for file in files(ROOT / source, kinds):
        if file.suffix not in TABLES:
            yield from ({"text": piece} for piece in pieces(file))
            continue
        options = {"keep_default_na": False} if file.suffix == ".csv" else {}  # "None" is a text
        table, path = TABLES[file.suffix], escape(str(file))
        yield from load_dataset(table, data_files=path, split="train", streaming=True, **options)


def documents(settings):
    """Yield each document as a dict with its "text", one by one; rows without text are left out."""
    for row in rows(settings.data, settings.kinds):
        text = row.get(settings.column)
        if isinstance(text, str) and text.strip():
            yield row | {"text": text}


def is_val(text):
    """Return True for about one document in twenty, always the same ones."""
    return zlib.crc32(text.strip().encode()) % 20 == 0
