"""Chats in the forms that people have them, made into one: a list of messages, each with a role and
a content.

A form is recognised by the names of the columns, for each file by itself; where they say nothing, a
nested list of turns is looked for. Nothing is decided silently: `form` and `notes` say what was
taken for what, and every row that cannot be used is named in `left_out`. Everything is held in
memory.
"""

import json
import math
import re
import shlex
import zlib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path
from tempfile import TemporaryDirectory

from handrail.data import exports, text_files
from handrail.data.text_files import problem, some
from handrail.project.project import Stop

ROLES = {
    "user": "user human prompter",
    "assistant": "assistant gpt bot model chatgpt ai claude",
    "system": "system developer",
    "tool": "tool function observation ipython tool_response",
    "call": "function_call tool_call",
}
COLUMNS = {  # each part of a chat and the names of its column, in any letter case; the first counts
    "chosen": "chosen",
    "rejected": "rejected",
    "messages": "messages conversations conversation",
    "question": "instruction prompt question query input q frage pregunta",
    "answer": "completion response answer output a answers answerkey antwort réponse respuesta",
    "before": "context passage story text",  # what the question is about
    "after": "input",  # what the instruction is to be done with
    "system": "system system_prompt",
    "history": "history chat_history previous_turns",  # earlier turns
    "choices": "choices options",  # of which the answer is one
    "correct": "correct label",  # which of the choices it is, where there is no answer
    "reasoning": "reasoning reasoning_content thinking",  # before the answer
    "tools": "tools functions",
    "label": "label",  # is the answer a good one?
    "weight": "weight",
    "train": "train",
}
ASKED = ["before", "after", "history", "choices", "reasoning"]
FORMS = [  # the parts that make a form, and those that may be there as well
    (["chosen", "rejected", "question"], ASKED),
    (["chosen", "rejected"], []),
    (["messages"], []),
    (["question", "answer"], ASKED),
]
MORE = ["system", "tools", "label", "weight", "train"]  # with every form
LINK = re.compile(rf"{text_files.UUID}|\w+://\S+")
NO_QUESTION = "id uuid url source date author language lang license split file filename".split()

CALLS = "tool calls and results, written as text: <tool_call> and <tool_response>"
PICTURES = "pictures, left out: only the text is read"
THOUGHTS = "thoughts before an answer, written as text: <think>"
SILENT = {"columns that change from row to row", "columns with other columns in them"}


class Unusable(Exception):
    """A row that nothing can be learned from; the text says why."""


@dataclass
class Chats:
    """What was read; `copies` says which of `rows` are exact copies of an earlier one (kept)."""

    rows: list = field(default_factory=list)  # {"messages": [...]}; pairs: "chosen", "rejected" too
    places: list = field(default_factory=list)  # where each of `rows` was, as "qa.jsonl, line 12"
    form: str = ""
    pairs: bool = False
    total: int = 0
    left_out: dict = field(default_factory=lambda: defaultdict(list))  # reason: where
    notes: list = field(default_factory=list)
    copies: list = field(default_factory=list)


# --- the files ---


def read_tables(path, chats, me):
    """Return {file name: [(where, row)]} of a file or folder; raise Stop when there is none or one
    cannot be read.
    """
    if not path.exists():
        raise Stop(problem("no such path", path=path))
    problems, harmless, found, passed = [], [], {}, Counter()
    with TemporaryDirectory() as folder:
        try:
            files = list(text_files.opened(path, Path(folder)))
        except text_files.Unreadable as error:
            raise Stop(str(error)) from error
        for file in files:
            wanted = file.path == path or text_files.is_read(file.path, text_files.KINDS)
            try:
                table = read_table(file, problems, chats, me) if wanted else None
            except text_files.Harmless as error:
                harmless.append(str(error))
                table = None
            except text_files.Unreadable as error:
                problems.append(str(error))
                continue
            if table is None:
                passed[file.path.suffix] += 1
            else:
                found[file.name] = table
    text_files.raise_problems(problems)
    if not found:
        text_files.raise_problems(harmless)
        raise no_chats(path)
    if passed:
        chats.notes.insert(0, f"Passed over, not read: {text_files.endings(passed)}.")
    return found


def no_chats(path):
    """Return the Stop for a source without a table or a chat in it."""
    if any(map(text_files.is_text, text_files.local_files(path))):
        return Stop(problem("plain text", path=path, quoted=shlex.quote(str(path))))
    return text_files.no_files(path)


def read_table(file, problems, chats, me):
    """Return [(where, row)] of a table or of a chat in lines of text; None for any other file."""
    if not text_files.is_table(file.path):
        return talk_in_text(file, me)
    notes = set()
    lines = file.path.suffix.lower() in (".jsonl", ".csv", ".ndjson", ".tsv")
    place = f"{file.name}, {'line' if lines else 'row'}"
    found = text_files.rows_in(file, problems, notes)
    table = [(f"{place} {number}", row) for number, row in found]
    chats.notes += [f"{file.name}: {note}." for note in sorted(notes - SILENT)]
    return table


def talk_in_text(file, me):
    """Return the conversations in the lines of a chat as rows, or None if it is no chat."""
    if file.path.suffix.lower() not in (".txt", ".log", ""):
        return None
    turns = exports.read_lines([text for _, text in text_files.lines(file.path, set())])
    return turns and talks([(file.name, turns)], me)


# --- who is who ---


def role_of(name):
    """Return the role that is meant by a name in an export, or None."""
    return next(
        (role for role, names in ROLES.items() if str(name).strip().lower() in names.split()), None
    )


def talks(found, me):
    """Return [(where, row)] of [(where, turns)]; where no role says who answers, `me` does.

    Raise Stop with the names if that is not known.
    """
    names, place = Counter(turn["role"] for _, turns in found for turn in turns), found[0][0]
    if any(role_of(name) == "assistant" for name in names):
        return [(where, {"messages": turns}) for where, turns in found]
    if me not in names:
        wrong = [problem("nobody of that name", where=place, me=me)] if me else []
        known = ", ".join(name for name, _ in names.most_common(20))
        raise Stop("\n".join([*wrong, problem("who answers", names=known)]), wants="me")
    rows = [
        (f"{where}, talk {number}", {"messages": messages})
        for where, turns in found
        for number, messages in enumerate(exports.conversations(turns, me), start=1)
    ]
    if not rows:
        raise Stop(problem("never answers", where=place, me=me))
    return rows


def nested_turns(table, column):
    """Return [(where, turns)] of the talks inside a table (or inside one column of it), or []."""
    name, rows = table[0][0].split(",")[0], [row for _, row in table]
    trees = [(where, branch) for where, row in table for branch in exports.branches(row)]
    if trees:
        return with_turns((where, exports.as_turns(branch)) for where, branch in trees)
    found = with_turns((where, turns_in(row, column)) for where, row in table)
    if len(found) > len(table) / 2:
        return found
    if column:
        return []
    threads = enumerate(exports.threads(rows), start=1)
    if found := with_turns((f"{name}, talk {n}", exports.as_turns(one)) for n, one in threads):
        return found
    turns = exports.as_turns(rows) or []
    few = len({turn["role"] for turn in turns}) <= len(turns) / 2
    return with_turns([(name, turns)]) if few else []


def with_turns(found):
    return [(where, turns) for where, turns in found if turns]


def turns_in(row, column):
    """Return the turns in a column of a row, or in the row; None if there are none."""
    turns = exports.find_turns(row[column]) if column in row else exports.talk(row)
    return turns or alternating(row)


def alternating(row):
    """Return the turns of a row that holds nothing but a list of texts, said in turns, or None."""
    values = [exports.parsed(v) if exports.is_json(v) else v for v in row.values()]
    lists = [value for value in values if isinstance(value, list)]
    rest = [value for value in values if is_text(value) and not text_files.is_id(value)]
    turns = len(lists) == 1 and len(lists[0]) > 1 and all(map(exports.is_words, lists[0]))
    return history(lists[0][: len(lists[0]) // 2 * 2]) if turns and not rest else None


# --- the form: which column is which part of a chat ---


def parts_of(columns):
    """Return {part of a chat: its column} by the names alone; empty when they make no chat."""
    named, parts = {str(column).strip().lower(): column for column in columns}, {}
    for part, names in COLUMNS.items():
        if found := [named[name] for name in names.split() if name in named]:
            parts[part] = found[0]
    if parts.get("after") == parts.get("question"):
        parts.pop("after", None)
    if "correct" in parts and "answers" in named and "choices" not in parts:
        parts["choices"], parts["answer"] = named["answers"], parts["correct"]
    if "correct" in parts and "choices" in parts and "answer" not in parts:
        parts["answer"] = parts["correct"]
    if parts.get("label") == parts.get("answer"):
        parts.pop("label", None)
    for needed, more in FORMS:
        if parts.keys() >= set(needed):
            return {part: parts[part] for part in [*needed, *more, *MORE] if part in parts}
    return {}


def with_choices(row):
    """Return a row whose choices are in columns A, B, C, ... with all of them in one."""
    letters = {name: str(row[name]) for name in "ABCDEFGH" if name in row}
    if not {"A", "B", "C"} <= letters.keys():
        return row
    rest = {name: value for name, value in row.items() if name not in letters}
    return rest | {"choices": letters}


def opened(row):
    """Return a row with the columns of the objects in it as its own."""
    found = {}
    for name, value in row.items():
        value = exports.unpacked(value)
        found |= value if isinstance(value, dict) else {name: value}
    return found


def is_text(value):
    return isinstance(value, str) and bool(value.strip())


def worded(value):
    """Return a number as text, because 42 may be an answer; anything else as it is."""
    number = type(value) is int or type(value) is float and math.isfinite(value)
    return str(value) if number else value


def two_columns(columns, rows):
    """Return the parts for a table whose names say nothing: two columns, or exactly two with more
    than numbers, ids and links in them.
    """
    names = {c: str(c).lower() for c in columns}
    columns = [c for c in columns if names[c] not in NO_QUESTION and not names[c].endswith("_id")]
    texts = [c for c in columns if any(is_text(row.get(c)) for row in rows) and not ids(rows, c)]
    if len(columns) == 2 and texts == columns[:1] and sums(rows, columns[1]):
        texts = columns
    if texts and len(rows) > 10 and len({row.get(texts[0]) for row in rows}) < len(rows) / 5:
        return {}  # a handful of words over and over: a group, no question
    return dict(zip(["question", "answer"], texts, strict=True)) if len(texts) == 2 else {}


def ids(rows, column, kind=text_files.ID):
    """Return True if a column holds nothing but ids, links, dates, numbers."""
    cells = [str(row[column]).strip() for row in rows if row.get(column) not in (None, "")]
    return sum(bool(kind.fullmatch(cell)) for cell in cells) > 0.9 * len(cells)


def sums(rows, column):
    """Return True if a column holds numbers that may be answers: not just 0, 1, 2, ..."""
    cells = [str(row.get(column, "")).strip() for row in rows]
    numbers = all(re.fullmatch(text_files.NUMBER, cell) for cell in cells if cell)
    return numbers and cells[:3] not in (["0", "1", "2"], ["1", "2", "3"])


def repeats(parts, rows):
    """Return True if the column before the question is mostly question and answer over again, as
    one text: it would give it away.
    """
    cells = [
        [str(row.get(parts[part])) for part in ("before", "question", "answer")] for row in rows
    ]
    same = [question in before and answer in before for before, question, answer in cells]
    return sum(same) > len(rows) / 2


def find_parts(name, table, chats, me):
    """Return (parts, table) of one file, with notes on what was decided; raise Stop when no form
    fits.
    """
    table = [(where, with_choices(row)) for where, row in table]
    rows, notes = [row for _, row in table], chats.notes
    columns = list(dict.fromkeys(column for row in rows for column in row))
    parts = parts_of(columns)
    column = parts.get("messages")
    if column and "chosen" not in parts and not any(known_role(row.get(column)) for row in rows):
        if turns := nested_turns(table, column):
            return {"messages": "messages"}, talks(turns, me)
        parts = parts_of([other for other in columns if other != column]) or parts
    if not parts and (turns := nested_turns(table, "")):
        notes.append(f"{name}: the turns of a talk were found inside it; nothing else is used.")
        return {"messages": "messages"}, talks(turns, me)
    if not parts and any(opened(row).keys() != row.keys() for row in rows):
        notes.append(f"{name}: the columns inside of objects are taken as columns.")
        return find_parts(name, [(where, opened(row)) for where, row in table], chats, me)
    parts = checked(name, parts, rows) if parts else guessed(name, columns, rows, notes)
    if unused := [column for column in columns if column not in parts.values()]:
        check_unused(name, rows, parts, unused)
        notes.append(f"{name}: not used, the column{'s' * (len(unused) > 1)} {listed(unused)}.")
    return parts, table


def guessed(name, columns, rows, notes):
    """Return the parts for columns whose names say nothing, and say so; raise Stop."""
    parts = two_columns(columns, rows)
    if not parts:
        why = problem("no form", name=name, columns=listed(columns))
        raise Stop(f"{why}\n{problem('forms')}")
    asks, answers = parts.values()
    notes.append(problem("guessed columns", name=name, asks=asks, answers=answers))
    if re.search(r"\.[ct]sv\b", name) and not str(asks).startswith("column"):
        notes.append(problem("first line is names", name=name))
    return parts


def checked(name, parts, rows):
    """Return the parts without columns that their values show to be something else; raise Stop."""
    labels = {str(row.get(parts.get("label"))).lower() for row in rows}
    if not labels <= {"true", "false", "0", "1", "none"}:
        parts.pop("label", None)  # not good or bad, but some other group
    if {"before", "question", "answer"} <= parts.keys() and repeats(parts, rows):
        del parts["before"]
    column = parts.get("answer")
    found = [row[column] for row in rows if is_text(row.get(column))]
    if found and "choices" not in parts and ids(rows, column, LINK):
        raise Stop(problem("no answers", name=name, column=column, example=found[0]))
    return parts


def known_role(value):
    """Return True if somebody in a list of messages has a role that is known."""
    turns = exports.unpacked(value)
    turns = turns if isinstance(turns, list) else []
    names = [turn.get("role") or turn.get("from") for turn in turns if isinstance(turn, dict)]
    return any(map(role_of, names))


def check_unused(name, rows, parts, unused):
    """Raise Stop if a column that nobody reads holds other columns and most of the file."""
    size = Counter()
    for row in rows:
        for column, value in row.items():
            size[column] += sum(map(len, exports.texts_in(exports.unpacked(value))))
    column = max(unused, key=lambda column: size[column])
    deep = any(isinstance(exports.unpacked(row.get(column)), (list, dict)) for row in rows)
    if deep and size[column] > sum(size[part] for part in parts.values()):
        raise Stop(problem("a column left over", name=name, column=column))


def listed(words):
    words = [str(word) for word in words]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words) or "none"


def sentence(parts):
    """Return what was recognised, as a person says it."""
    order = ("messages", "before", "history", "question", "after", "choices", "reasoning")
    used = listed(parts[part] for part in (*order, "answer", "chosen", "rejected") if part in parts)
    if "chosen" in parts:
        return f"pairs of a better and a worse answer, in the columns {used}"
    if "messages" in parts:
        return f"conversations, in the column {used}"
    named = "instruction, input and output" if "after" in parts else "prompt and completion"
    return f"{named}, in the columns {used}"


# --- one message ---


def content(said, remarks):
    """Return the text of a content, which may come in parts; pictures are left out."""
    if isinstance(said, dict):
        said = [said]
    if isinstance(said, list):
        texts = [part_text(part, remarks) for part in said]
        if not any(texts) and PICTURES in remarks:
            raise Unusable("nothing but a picture or a file, so no text")
        said = "".join(texts)
    said = worded(said)
    if not isinstance(said, str | None):
        raise Unusable(f"content that is not text ({type(said).__name__})")
    if re.search("[\ud800-\udfff]", said or ""):
        raise Unusable("half a character (a lone surrogate such as \\ud800)")
    if "<image>" in (said or ""):
        remarks.append(PICTURES)
        said = said.replace("<image>", "").strip()
    return said or ""


def part_text(part, remarks):
    """Return the text of a part of a message: a text, a thought, a call of a tool or its result."""
    part = part if isinstance(part, dict) else {"text": part}
    kind = part.get("type")
    if kind == "tool_use":
        call = {"name": part.get("name"), "arguments": part.get("input")}
        return calls({"function_call": call}, remarks)
    if kind == "tool_result":
        return marked("tool_response", content(part.get("content"), remarks), remarks)
    if kind == "thinking" and is_text(part.get("thinking")):
        return marked("think", part["thinking"].strip(), remarks) + "\n\n"
    if isinstance(part.get("text"), str):
        return part["text"]
    remarks.append(PICTURES)
    return ""


def marked(name, text, remarks):
    """Return a text between marks: a thought, a call of a tool, or what the tool gave."""
    remarks.append(THOUGHTS if name == "think" else CALLS)
    return f"<{name}>\n{text}\n</{name}>"


def calls(turn, remarks):
    """Return the calls of tools in a message, as text."""
    found, texts = turn.get("tool_calls") or [turn.get("function_call")], []
    for call in filter(None, found if isinstance(found, list) else [found]):
        call = call.get("function", call) if isinstance(call, dict) else call
        if isinstance(call, dict) and isinstance(call.get("arguments"), str):
            call = call | {"arguments": exports.unpacked(call["arguments"])}
        text = call if isinstance(call, str) else json.dumps(call, ensure_ascii=False)
        texts.append(marked("tool_call", text, remarks))
    return "\n".join(texts)


def is_learned(marks):
    """Return False for what is marked as not to be learned; raise Stop for a mark between."""
    weight = marks.get("weight", marks.get("loss_weight"))
    if unknown := [mark for mark in exports.UNKNOWN if marks.get(mark) is not None]:
        raise Stop(problem("an unknown mark", mark=unknown[0]))
    if weight not in (None, 0, 1, "0", "1", "0.0", "1.0"):
        raise Stop(problem("a weight", weight=weight))
    train = str(marks.get("train", marks.get("loss"))).lower()
    return weight not in (0, "0", "0.0") and train not in ("false", "0", "no")


def clean(said, remarks):
    """Return messages with nothing but role, content, and train: false where it is not learned."""
    said = exports.unpacked(said)
    if isinstance(said, dict):
        said = exports.find_turns(said)
    if not isinstance(said, list) or not all(isinstance(message, dict) for message in said):
        raise Unusable("not a list of messages")
    return [cleaned(message, remarks) for message in said]


def cleaned(message, remarks):
    turn = exports.as_turn(message)
    if turn is None:
        raise Unusable("a message without a role or without content")
    who, text = role_of(turn["role"]), content(turn["content"], remarks)
    if who is None:
        raise Unusable(f"unknown role {turn['role']!r}")
    if who == "call":
        who, text = "assistant", marked("tool_call", text, remarks)
    if who == "tool":
        who, text = "user", marked("tool_response", text, remarks)
    text = f"{text}\n{calls(turn, remarks)}".strip() if turn.keys() & {*exports.CALLS} else text
    thought = next((turn[name] for name in exports.THOUGHTS if is_text(turn.get(name))), None)
    if who == "assistant" and thought:
        text = f"{marked('think', thought.strip(), remarks)}\n\n{text}"
    made = {"role": who, "content": text}
    if who == "assistant" and not is_learned(turn):
        made["train"] = False
        remarks.append("turns marked as not to be learned (weight 0 or train false), read only")
    return made


# --- one row ---


def in_turns(messages, remarks):
    """Return messages of user and assistant in turns: what one of them says in a row is joined."""
    talk = []
    for message in messages:
        if message["role"] == "system":
            message = {"role": "user", "content": message["content"]}
            remarks.append("a system message later on, put before the next question")
        if talk and {**message, "content": ""} == {**talk[-1], "content": ""}:
            talk[-1] = message | {"content": f"{talk[-1]['content']}\n\n{message['content']}"}
            remarks.append("two messages of one person in a row, joined")
        else:
            talk.append(message)
    return talk


def check_complete(messages):
    """Raise Unusable if a question or an answer is missing."""
    blank = {m["role"] for m in messages if not m["content"].strip()}
    roles = {m["role"] for m in messages}
    faults = {
        "no answer (no assistant message)": "assistant" not in roles,
        "begins with an answer, and no question is there": "user" not in roles,
        "empty answer": "assistant" in blank,
        "empty question": "user" in blank,
    }
    if found := [reason for reason, there in faults.items() if there]:
        raise Unusable(found[0])


def tidy(messages, remarks):
    """Return messages in the order that chat templates want: one system message first, then user
    and assistant in turns, each with something to say; raise Unusable.
    """
    check_complete(messages)
    messages = [m for m in messages if m["role"] != "system" or m["content"].strip()]
    first = list(takewhile(lambda m: m["role"] == "system", messages))
    system, talk = (
        "\n\n".join(m["content"] for m in first),
        in_turns(messages[len(first) :], remarks),
    )
    if talk[0]["role"] == "assistant":
        greeting, talk = talk[0]["content"], talk[1:]
        system = f"{system}\n\nYou have greeted: {greeting}".strip()
        remarks.append("a greeting before the first question, put into the system message")
    if talk[-1]["role"] == "user":
        remarks.append("last question without an answer, cut off")
    while talk and (talk[-1]["role"] == "user" or talk[-1].get("train") is False):
        talk.pop()
    if not talk:
        raise Unusable("no answer to learn")
    return [{"role": "system", "content": system}] * bool(system) + talk


def said_by(who, value):
    """Return a column as messages: a list of them, a whole talk as "Human: Hello\\n\\nAssistant:
    Hi!", or one that `who` says.
    """
    found = exports.unpacked(value)
    messages = isinstance(found, list) and all(isinstance(turn, dict) for turn in found)
    if messages and all(turn.keys() & {"role", "from"} for turn in found):
        return found
    if not isinstance(value, str) or not re.match(r"\s*Human:.*\n\nAssistant:", value, re.S):
        return [{"role": who, "content": value}]
    _, *pieces = re.split(r"(?:^\s*|\n\n)(Human|Assistant):", value)
    names = [name.lower() for name in pieces[::2]]
    turns = zip(names, pieces[1::2], strict=True)
    return [{"role": name, "content": said.strip()} for name, said in turns]


def asked(cell, remarks):
    """Return what comes before the answer, as messages."""
    question = cell.get("question")
    said = said_by("user", question)
    if is_text(question) and said[0].get("content") is question:
        before, after = (content(cell.get(part), remarks) for part in ("before", "after"))
        parts = [f"{before}\n" if before.strip() else "", question]
        parts.append(f"\n\n{after}" if after.strip() else "")
        for letter, text in choices(cell.get("choices")).items():
            parts.append(f"\n{letter}. {text}")
        said = [{"role": "user", "content": "".join(parts)}]
    return [*history(cell.get("history")), *said]


def history(value):
    """Return earlier turns: pairs of question and answer, messages, or texts in turns."""
    value = exports.unpacked(value)
    if isinstance(value, str) and value.strip():
        value = exports.parsed(value)
    if not value:
        return []
    if isinstance(value, list) and all(isinstance(turn, dict) for turn in value):
        return value
    texts = value
    if isinstance(value, list) and all(isinstance(turn, list) for turn in value):
        texts = [text for turn in value for text in turn]
    if not isinstance(texts, list) or len(texts) % 2 or not all(map(is_text, texts)):
        raise Unusable("a history that is no list of questions with answers")
    roles = ["user", "assistant"] * (len(texts) // 2)
    return [{"role": who, "content": text} for who, text in zip(roles, texts, strict=True)]


def choices(value):
    """Return {letter: text} of the choices of a question."""
    value = exports.parsed(value) if isinstance(value, str) else value
    if isinstance(value, dict) and "text" in value:
        return dict(zip(value["label"], value["text"], strict=True))
    if isinstance(value, dict) or not value:
        return value or {}
    if not isinstance(value, list):
        raise Unusable("choices that are no list")
    texts = [item.get("text") if isinstance(item, dict) else item for item in value]
    return dict(zip("ABCDEFGHIJKLMNOPQRSTUVWXYZ", map(str, texts), strict=False))


def first_choice(parts, table):
    """Return 1 if the choices of a table are counted from 1, else 0."""
    numbers = {str(row.get(parts.get("answer"))) for _, row in table}
    last = {len(row.get(parts.get("choices")) or ()) for _, row in table}
    return int("0" not in numbers and bool(numbers & set(map(str, last))))


def answered(cell):
    """Return the answer; one that is the number or letter of a choice becomes that choice."""
    answer, found = cell["answer"], choices(cell.get("choices"))
    if isinstance(answer, dict) and "text" in answer:
        answer = answer["text"]
    if isinstance(answer, list) and answer and all(map(is_text, answer)):
        answer = answer[0]
    if not found:
        return answer
    answer, letters = str(answer).strip(), list(found)
    place = int(answer) - cell["first"] if answer.isdigit() else -1
    if answer in found.values():
        answer = next(letter for letter in letters if found[letter] == answer)
    elif answer not in found and 0 <= place < len(letters):
        answer = letters[place]
    if answer not in found:
        raise Unusable("an answer that is none of the choices")
    return f"{answer}. {found[answer]}"


def conversation(cell):
    """Return {"messages": ...} that ends with an answer, and remarks about it."""
    remarks = []
    if not is_learned(cell) or str(cell.get("label")).lower() in ("false", "0", "0.0"):
        raise Unusable("marked as not to be learned; to keep it, take out weight, train or label")
    if "messages" in cell:
        said = clean(cell["messages"], remarks)
    else:
        said = clean(asked(cell, remarks) + said_by("assistant", answered(cell)), remarks)
        if is_text(cell.get("reasoning")):
            thought = marked("think", cell["reasoning"], remarks)
            said[-1]["content"] = f"{thought}\n\n{said[-1]['content']}"
    return {"messages": tidy(with_system(cell, said, remarks), remarks)}, remarks


def with_system(cell, messages, remarks):
    """Return messages with the system message and the tools of the row."""
    system = content(cell.get("system"), remarks)
    if system.strip() and messages[:1] and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    tools = cell.get("tools")
    if tools and tools != "[]":
        tools = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
        text = f"You can call these tools:\n{marked('tools', tools, remarks)}"
        at = sum(message["role"] == "system" for message in messages[:1])
        messages = [*messages[:at], {"role": "system", "content": text}, *messages[at:]]
    return messages


def pair(cell):
    """Return {"messages": the prompt, "chosen": text, "rejected": text}, and remarks.

    Where the two are the same, they are the prompt.
    """
    remarks = []
    better, worse = (
        clean(said_by("assistant", cell[side]), remarks) for side in ("chosen", "rejected")
    )
    if better == worse:
        raise Unusable("chosen and rejected are the same")
    prompt, ends = better[:-1], [*worse[-1:], *better[-1:]]
    if prompt != worse[:-1] or [end["role"] for end in ends] != ["assistant", "assistant"]:
        raise Unusable("chosen and rejected are not one answer each to the same question")
    if prompt and prompt[-1]["role"] == "assistant":
        raise Unusable("an answer right before the two answers")
    begins = [message["role"] for message in prompt if message["role"] != "system"]
    if cell.get("question") is not None and begins[:1] != ["user"]:
        prompt = clean(asked(cell, remarks), remarks) + prompt
    prompt = with_system(cell, prompt, remarks)
    for end in ends:
        *prompt, _ = tidy([*prompt, end], remarks)
    texts = {"chosen": ends[1]["content"], "rejected": ends[0]["content"]}
    return {"messages": prompt, **texts}, remarks


# --- all rows ---


def convert(chats, parts, table):
    """Add the rows of one file to `chats`, with notes on what was done to them."""
    remarks, first = defaultdict(list), first_choice(parts, table)
    for where, row in table:
        cell = {part: worded(row.get(column)) for part, column in parts.items()}
        try:
            made, said = (pair if chats.pairs else conversation)(cell | {"first": first})
        except Unusable as reason:
            chats.left_out[str(reason)].append(where)
            continue
        except Stop as stop:
            raise Stop(f"{where}: {stop}") from stop
        chats.rows.append(made)
        chats.places.append(where)
        for remark in dict.fromkeys(said):
            remarks[remark].append(where)
    for remark, places in remarks.items():
        number = f"{len(places):,} row{'s' * (len(places) > 1)}"
        chats.notes.append(f"{number}: {remark} ({some(places)}).")


def read_chats(source, name, me=None):
    """Return the Chats of a file or folder (a Path) or of rows (dicts).

    `me` is whose messages are the answers, in an export where no role says it. Raise Stop when no
    form fits or no row is left.
    """
    chats = Chats()
    if isinstance(source, Path):
        tables = read_tables(source, chats, me)
    else:
        tables = {name: [(f"row {n}", row) for n, row in enumerate(source, start=1)]}
    found = {file: find_parts(file, table, chats, me) for file, table in tables.items() if table}
    if not found:
        raise Stop(problem("no chats", name=name))
    chats.total = sum(len(table) for _, table in found.values())
    chats.pairs = any("chosen" in parts for parts, _ in found.values())
    if others := [file for file, (parts, _) in found.items() if ("chosen" in parts) != chats.pairs]:
        raise Stop(problem("mixed", name=name, others=some(others)))
    chats.form = "; ".join(dict.fromkeys(sentence(parts) for parts, _ in found.values()))
    for parts, table in found.values():
        convert(chats, parts, table)
    if not chats.rows:
        why = problem("none can be used", name=name, total=chats.total, form=chats.form)
        reasons = [f"  {reason}: {some(places)}" for reason, places in chats.left_out.items()]
        raise Stop("\n".join([why, *reasons[: text_files.NAMED]]))
    chats.copies = copies(chats)
    return chats


def copies(chats):
    """Return the rows that occur before, and where: ["qa.csv, line 9 (as qa.csv, line 3)"]."""
    first, found = {}, []
    for row, where in zip(chats.rows, chats.places, strict=True):
        before = first.setdefault(json.dumps(row), where)
        if before != where:
            found.append(f"{where} (as {before})")
    return found


def first_question(row):
    return next(m["content"] for m in row["messages"] if m["role"] == "user")


def split(rows):
    """Return (train, held out): the first question decides, so no question is on both sides.

    About one in ten is held out.
    """
    hashes = {q: zlib.crc32(q.encode()) for q in map(first_question, rows)}
    order = sorted(hashes, key=lambda question: (hashes[question], question))
    held = {question for question in order if hashes[question] % 10 == 0}
    if len(order) > 1:
        held = (held or {order[0]}) - ({order[-1]} if len(held) == len(order) else set())
    train = [row for row in rows if first_question(row) not in held]
    return train, [row for row in rows if first_question(row) in held]
