"""Chats in the forms that people have them, made into one: a list of messages, each with a role and a content.

A form is recognised by the names of the columns, for each file by itself. Nothing is decided silently: `form` and `notes` say
what was taken for what, and every row that cannot be used is named in `left_out`. Everything is held in memory.
"""

import ast
import json
import math
import re
import shlex
import zlib
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import accumulate, pairwise, takewhile
from pathlib import Path

from handrail.data import text_files as sources
from handrail.project import Stop

ROLES = {"user": "user", "human": "user", "prompter": "user", "system": "system"} | dict.fromkeys(
    ["assistant", "gpt", "bot", "model", "chatgpt"], "assistant"
)

COLUMNS = {  # each part of a chat and the names of its column, in any letter case; of several the first counts
    "chosen": ["chosen"],
    "rejected": ["rejected"],
    "messages": ["messages", "conversations", "conversation"],
    "question": ["instruction", "prompt", "question", "query", "input", "q"],
    "answer": ["completion", "response", "answer", "output", "a"],
    "before": ["context", "passage", "story", "text"],  # what the question is about
    "after": ["input"],  # what the instruction is to be done with
    "system": ["system", "system_prompt"],
}
NO_QUESTION = "id uuid url source date author language lang license split file filename".split()

QUESTIONS = (
    "prompt and completion (or prompt/response, question/answer, query/response, input/output, q/a)"
)
EXAMPLES = {
    "messages": '{"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi!"}]}',
    "ShareGPT": '{"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi!"}]}',
    QUESTIONS: '{"question": "Hello", "answer": "Hi!"}',
    "instruction, input and output": '{"instruction": "Say it in English.", "input": "Hallo", "output": "Hello"}',
    "a better and a worse answer": '{"prompt": "Hello", "chosen": "Hi!", "rejected": "What?"}',
    "two columns of text under any names, the first asks": '{"me": "Hello", "you": "Hi!"}',
}
CUT = "last question without an answer, cut off"
TWO_ANSWERS = "two answers in a row, kept as they are"


class Unusable(Exception):
    """A row that nothing can be learned from; the text says why."""


@dataclass
class Chats:
    """What was read; `copies` says which of `rows` are exact copies of an earlier one (they are kept)."""

    rows: list = field(
        default_factory=list
    )  # {"messages": [...]}; of pairs also "chosen" and "rejected", two texts
    places: list = field(default_factory=list)  # where each of `rows` was, as "qa.jsonl, line 12"
    form: str = ""
    pairs: bool = False
    total: int = 0
    left_out: dict = field(default_factory=dict)  # reason: where
    notes: list = field(default_factory=list)
    copies: list = field(default_factory=list)


# --- the files ---


def unpacked(value):
    """Return the list of messages that is in a cell as text, or the cell as it is."""
    for read in (json.loads, ast.literal_eval):
        try:
            return (
                read(value)
                if re.match(r"\[\s*\{\s*[\"'](role|content|from|value)\b", value)
                else value
            )
        except (ValueError, SyntaxError):
            pass
    return value


def csv_rows(file, problems):
    """Yield (row, bytes); a cell may hold a whole conversation."""
    for row, size in sources.csv_rows(file, problems):
        yield {column: unpacked(value) for column, value in row.items()}, size


READERS = sources.READERS | {".csv": csv_rows}


def numbered(file, name, problems):
    """Return [(where, row)]; `where` is exact when no problems are found, and with problems nothing is used."""
    rows = (row for row, _ in READERS[file.suffix](file, problems))
    if file.suffix == ".jsonl":
        return [
            (f"{name}, line {n}", row)
            for n, row in zip((n for n, text, _ in sources.lines(file) if text.strip()), rows)
        ]
    if file.suffix == ".csv":  # after the names; a line break in a cell counts
        rows = list(rows)
        heights = [1 + sum(str(cell).count("\n") for cell in row.values()) for row in rows]
        starts = accumulate(heights, initial=2)
        return [(f"{name}, line {n}", row) for n, row in zip(starts, rows)]
    return [(f"{name}, row {n}", row) for n, row in enumerate(rows, start=1)]


def read_tables(path, notes):
    """Return {file name: [(where, row)]} of a file or folder; raise Stop when there is none or one cannot be read."""
    if not path.exists():
        raise Stop(f"There is no file or folder {path}. Look with `ls`, then name it again.")
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    files = [
        file
        for file in files
        if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts)
    ]
    tables = {
        file.name if file == path else str(file.relative_to(path)): file
        for file in files
        if file.suffix in READERS
    }
    if not tables:
        raise (
            plain_text(path)
            if any(file.suffix in {".txt", ".md"} for file in files)
            else sources.no_files(path)
        )
    if passed := sources.endings(path, set(tables.values())):
        notes.append(f"Passed over, not read: {passed}.")
    problems, found = [], {}
    for name, file in tables.items():
        try:
            found[name] = numbered(file, name, problems)
        except sources.Unreadable as error:
            problems.append(str(error))
        except OSError as error:
            problems.append(
                f"{file}: cannot be opened ({error.strerror}). `ls -l` shows who may read it."
            )
    sources.raise_problems(sources.Survey(problems=problems))
    return found


# --- the form: which column is which part of a chat ---


def parts_of(columns):
    """Return {part of a chat: its column} by the names alone; empty when they do not make a chat."""
    named = {str(column).strip().lower(): column for column in columns}
    parts = {
        part: [named[name] for name in names if name in named] for part, names in COLUMNS.items()
    }
    parts = {part: found[0] for part, found in parts.items() if found}
    if parts.get("after") == parts.get("question"):
        parts.pop("after", None)
    for needed in (
        ["chosen", "rejected", "question"],
        ["chosen", "rejected"],
        ["messages"],
        ["question", "answer"],
    ):
        if all(part in parts for part in needed):
            more = ["before", "after", "system"] if "question" in needed else ["system"]
            return {part: parts[part] for part in needed + more if part in parts}
    return {}


def is_text(value):
    return isinstance(value, str) and bool(value.strip())


def worded(value):
    """Return a number as text, because 42 may be an answer; anything else as it is."""
    return (
        str(value) if type(value) is int or type(value) is float and math.isfinite(value) else value
    )


def two_columns(columns, rows):
    """Return the parts for a table whose names say nothing: two columns, or exactly two with more than numbers in them."""
    columns = [
        c
        for c in columns
        if str(c).lower() not in NO_QUESTION and not str(c).lower().endswith("_id")
    ]
    texts = [
        c
        for c in columns
        if any(is_text(row.get(c)) and not sources.is_number(row[c]) for row in rows)
    ]
    texts = columns if len(columns) == 2 and texts == columns[:1] else texts
    return dict(zip(["question", "answer"], texts)) if len(texts) == 2 else {}


def repeats(parts, rows):
    """Return True if the column before the question is only question and answer over again, as one text: it would give it away."""
    cells = [[row.get(parts[part]) for part in ("before", "question", "answer")] for row in rows]
    cells = [cell for cell in cells if all(map(is_text, cell))]
    return (
        sum(question in before and answer in before for before, question, answer in cells)
        > len(cells) / 2
    )


def find_parts(name, rows, notes):
    """Return the parts of the rows of one file, with notes on what was decided; raise Stop when no form fits."""
    columns = list(dict.fromkeys(column for row in rows for column in row))
    parts = parts_of(columns)
    if "messages" in parts and not any(
        isinstance(row.get(parts["messages"]), list) for row in rows
    ):
        parts = parts_of([column for column in columns if column != parts["messages"]]) or parts
    if {"before", "question", "answer"} <= parts.keys() and repeats(parts, rows):
        del parts["before"]
    if not parts and (parts := two_columns(columns, rows)):
        asks, answers = parts.values()
        notes.append(
            f"{name}: the column names do not say which is which, so {asks!r} is taken as the question and {answers!r} as the answer."
        )
        if name.endswith(".csv"):
            notes.append(
                f"{name}: the first line was taken as column names. If it is data, add a line above it: question,answer"
            )
    if not parts:
        examples = "\n".join(f"  {form}:\n    {line}" for form, line in EXAMPLES.items())
        raise Stop(
            f"{name}: its columns ({listed(columns)}) match no form of questions and answers. Change it to one of these:\n{examples}"
        )
    if unused := [column for column in columns if column not in parts.values()]:
        notes.append(f"{name}: not used, the column{'s' * (len(unused) > 1)} {listed(unused)}.")
    return parts


def plain_text(path):
    return Stop(
        f"{path}: this is plain text. To learn to answer, a model needs questions with answers, in a .jsonl file, one per line:\n"
        f"  {EXAMPLES[QUESTIONS]}\n"
        f"If there are no questions, let a model learn the text itself: handrail new my-model --data {shlex.quote(str(path))}"
    )


def listed(words):
    words = [str(word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "none"


def sentence(parts):
    """Return what was recognised, as a person says it."""
    order = ("messages", "before", "question", "after", "answer", "chosen", "rejected")
    used = listed(parts[part] for part in order if part in parts)
    if "chosen" in parts:
        return f"pairs of a better and a worse answer, in the columns {used}"
    if "messages" in parts:
        return f"conversations, in the column {used}"
    return f"{'instruction, input and output' if 'after' in parts else 'prompt and completion'}, in the columns {used}"


# --- one row ---


def role(message):
    name = message.get("role") or message.get("from")
    if str(name).strip().lower() not in ROLES:
        raise Unusable(f"unknown role {name!r}" if name else "a message without a role")
    return ROLES[str(name).strip().lower()]


def content(message):
    """Return the text of a message, which may come in parts."""
    if not message.keys() & {"content", "value"}:
        raise Unusable("a message without content")
    said = message.get("value") if message.get("content") is None else message["content"]
    if isinstance(said, list) and all(
        isinstance(part, dict) and isinstance(part.get("text"), str) for part in said
    ):
        said = "".join(part["text"] for part in said)
    said = worded(said)
    if not isinstance(said, str | None):
        raise Unusable(f"content that is not text ({type(said).__name__})")
    if re.search("[\ud800-\udfff]", said or ""):
        raise Unusable("half a character (a lone surrogate such as \\ud800)")
    return said or ""


def clean(said, system=None):
    """Return messages with nothing but role and content, the system's first; raise Unusable."""
    if not isinstance(said, list) or not all(isinstance(message, dict) for message in said):
        raise Unusable("not a list of messages")
    messages = [{"role": role(message), "content": content(message)} for message in said]
    if not messages or messages[0]["role"] != "system":
        messages.insert(0, {"role": "system", "content": content({"content": system})})
    return [
        message for message in messages if message["role"] != "system" or message["content"].strip()
    ]


def check_order(messages):
    """Raise Unusable unless user and assistant take turns and say something."""
    talk = messages[1:] if messages and messages[0]["role"] == "system" else messages
    roles = [message["role"] for message in talk]
    blank = {message["role"] for message in talk if not message["content"].strip()}
    faults = {
        "no answer (no assistant message)": "assistant" not in roles,
        "begins with an answer (an assistant message)": roles[:1] == ["assistant"],
        "a system message that is not the first": "system" in roles,
        "two questions in a row (user messages)": ("user", "user") in pairwise(roles),
        "empty answer": "assistant" in blank,
        "empty question": "user" in blank,
    }
    if found := [reason for reason, there in faults.items() if there]:
        raise Unusable(found[0])


def said_by(who, value):
    return value if isinstance(value, list) else [{"role": who, "content": value}]


def asked(cell):
    """Return what comes before the answer, as messages."""
    question = cell.get("question")
    if is_text(question):
        before, after = (content({"content": cell.get(part)}) for part in ("before", "after"))
        question = f"{before}\n{question}" if before.strip() else question
        question = f"{question}\n\n{after}" if after.strip() else question
    return said_by("user", question)


def conversation(cell):
    """Return {"messages": ...} that ends with an answer, and remarks about it."""
    said = (
        cell["messages"]
        if "messages" in cell
        else asked(cell) + said_by("assistant", cell["answer"])
    )
    messages = clean(said, cell.get("system"))
    check_order(messages)
    cut = messages[-1]["role"] == "user"
    return {"messages": messages[:-1] if cut else messages}, [CUT] * cut


def spoken(text):
    """Return the messages of a whole talk in one text, as in "Human: Hello\\n\\nAssistant: Hi!"."""
    if not (isinstance(text, str) and re.match(r"\s*Human:", text)):
        return said_by("assistant", text)
    pieces = re.split(r"(?:^\s*|\n\n)(Human|Assistant):", text)
    names = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": names[who], "content": said.strip()}
        for who, said in zip(pieces[1::2], pieces[2::2])
    ]


def pair(cell):
    """Return {"messages": the prompt, "chosen": text, "rejected": text}: where the two are the same, they are the prompt."""
    prompted = cell.get("question") is not None
    better, worse = (
        clean(said_by("assistant", cell[side]) if prompted else spoken(cell[side]))
        for side in ("chosen", "rejected")
    )
    if better == worse:
        raise Unusable("chosen and rejected are the same")
    same = len(list(takewhile(lambda two: two[0] == two[1], zip(better, worse))))
    prompt, ends = better[:same], [*better[same:], *worse[same:]]
    if (
        len(ends) != 2
        or len(better) != len(worse)
        or any(end["role"] != "assistant" for end in ends)
    ):
        raise Unusable("chosen and rejected are not one answer each to the same question")
    if prompted and [message["role"] for message in prompt if message["role"] != "system"][:1] != [
        "user"
    ]:
        prompt = asked(cell) + prompt
    prompt = clean(prompt, cell.get("system"))
    for end in ends:
        check_order([*prompt, end])
    return {"messages": prompt, "chosen": ends[0]["content"], "rejected": ends[1]["content"]}, []


# --- all rows ---


def convert(chats, parts, table):
    """Add the rows of one file to `chats`; return {remark: where}."""
    remarks, left_out = defaultdict(list), defaultdict(list, chats.left_out)
    for where, row in table:
        try:
            made, said = (pair if chats.pairs else conversation)(
                {part: worded(row.get(column)) for part, column in parts.items()}
            )
        except Unusable as reason:
            left_out[str(reason)].append(where)
            continue
        chats.rows.append(made)
        chats.places.append(where)
        roles = [message["role"] for message in made["messages"]]
        for remark in said + [TWO_ANSWERS] * (("assistant", "assistant") in pairwise(roles)):
            remarks[remark].append(where)
    chats.left_out = dict(left_out)
    return remarks


def some(places):
    more = f" and {len(places) - sources.NAMED} more" if len(places) > sources.NAMED else ""
    return "; ".join(places[: sources.NAMED]) + more


def read_chats(source, name):
    """Return the Chats of a file or folder (a Path) or of rows (dicts); raise Stop when no form fits or no row is left."""
    chats = Chats()
    if isinstance(source, Path):
        tables = read_tables(source, chats.notes)
    else:
        tables = {name: [(f"row {n}", row) for n, row in enumerate(source, start=1)]}
    tables = {file: table for file, table in tables.items() if table}
    chats.total = sum(map(len, tables.values()))
    if not tables:
        raise Stop(f"{name}: it has no rows. Is it the right file?")
    rows = {file: [row for _, row in table] for file, table in tables.items()}
    parts = {file: find_parts(file, rows[file], chats.notes) for file in tables}
    chats.pairs = any("chosen" in found for found in parts.values())
    if others := [file for file in parts if ("chosen" in parts[file]) != chats.pairs]:
        raise Stop(
            f"{name}: some files hold pairs (chosen and rejected), these do not: {some(others)}. Use one kind at a time."
        )
    chats.form = "; ".join(dict.fromkeys(sentence(parts[file]) for file in tables))
    for file, table in tables.items():
        for remark, places in convert(chats, parts[file], table).items():
            chats.notes.append(
                f"{len(places):,} row{'s' * (len(places) > 1)}: {remark} ({some(places)})."
            )
    if not chats.rows:
        reasons = "\n".join(
            f"  {reason}: {some(places)}"
            for reason, places in list(chats.left_out.items())[: sources.NAMED]
        )
        raise Stop(
            f"{name}: none of the {chats.total:,} rows can be used ({chats.form}). Why:\n{reasons}"
        )
    chats.copies = copies(chats)
    return chats


def copies(chats):
    """Return where rows are that occur before, and where: ["qa.csv, line 9 (as qa.csv, line 3)"]."""
    first, found = {}, []
    for row, where in zip(chats.rows, chats.places):
        before = first.setdefault(json.dumps(row), where)
        if before != where:
            found.append(f"{where} (as {before})")
    return found


def write_chats(rows, file):
    """Write rows as JSON lines: under another name first, so that there is never half a file."""
    part = file.with_name(file.name + ".part")
    with open(part, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    part.replace(file)


def split(rows):
    """Return (train, held out): the first question decides, about one in ten is held out, so no question is on both sides."""
    questions = [
        next(message["content"] for message in row["messages"] if message["role"] == "user")
        for row in rows
    ]
    order = sorted(set(questions), key=lambda question: (zlib.crc32(question.encode()), question))
    held = {question for question in order if zlib.crc32(question.encode()) % 10 == 0}
    if len(order) > 1:
        held = (held or {order[0]}) - ({order[-1]} if len(held) == len(order) else set())
    train, out = [], []
    for row, question in zip(rows, questions):
        (out if question in held else train).append(row)
    return train, out
