"""From your files to documents, and from documents to train and val.

A language model learns what is in its data and nothing else, so look at the
data before anything is trained. About one document in twenty is kept back as
*val* (validation): the model never trains on it, and how well it predicts it
is the only honest exam.

The trap: a split by position or by chance moves documents between train and
val when data is added, and the exam leaks. Here the text of a document itself
decides, so it stays where it was, and exact copies stay together, whatever
blanks stand around them.
"""

import zlib
from glob import escape

from datasets import config, load_dataset

from settings import ROOT

config.HF_UPDATE_DOWNLOAD_COUNTS = False  # or the hub is told of every file that is opened, a third of a second each
# keep_default_na: or a text such as "None" in a .csv file would be no text
TABLES = {".jsonl": {"path": "json"}, ".json": {"path": "json"}, ".csv": {"path": "csv", "keep_default_na": False}, ".parquet": {"path": "parquet"}}
PIECE = 4000  # characters: long texts are cut into documents of about this size


def files(source, kinds):
    """Return the files of these kinds in a folder (a Path, or one file), in a fixed order, but none that is hidden or of a project."""
    found = sorted(source.rglob("*")) if source.is_dir() else [source]
    seen = [file for file in found if not any(part.startswith(".") for part in file.relative_to(source).parts)]
    projects = {file.parent for file in seen if file.name == "settings.toml" and (file.parent.samefile(ROOT) or (file.parent / "out").exists())}
    return [file for file in seen if file.is_file() and file.suffix in kinds and projects.isdisjoint(file.parents)]


def pieces(file):
    """Yield a text file cut into documents, each ending at the first blank line after PIECE characters, or a few PIECE later."""
    piece, size = [], 0
    with open(file, encoding="utf-8-sig") as lines:
        for line in iter(lambda: lines.readline(4 * PIECE), ""):  # a line, or a part of one that is longer
            piece.append(line)
            size += len(line)
            if size >= PIECE and not line.strip() or size >= 4 * PIECE:
                yield "".join(piece)
                piece, size = [], 0
    yield "".join(piece)


def rows(source, kinds):
    """Yield every row of a file, a folder, or a hub data set `owner/name[:config[:split]]` as a dict."""
    if not (ROOT / source).exists():
        name, config, split = (source.split(":") + ["", ""])[:3]
        yield from load_dataset(name, config or None, split=split or "train", streaming=True)
        return
    for file in files(ROOT / source, kinds):
        if file.suffix in TABLES:
            yield from load_dataset(**TABLES[file.suffix], data_files=escape(str(file)), split="train", streaming=True)
        else:
            yield from ({"text": piece} for piece in pieces(file))


def documents(settings):
    """Yield every document as a dict with its "text"; rows without text are passed over. Nothing is held in memory."""
    for row in rows(settings.data, settings.kinds):
        text = row.get(settings.column)
        if isinstance(text, str) and text.strip():
            yield row | {"text": text}


def is_val(text):
    """Return True for about one document in twenty, always the same ones."""
    return zlib.crc32(text.strip().encode()) % 20 == 0
