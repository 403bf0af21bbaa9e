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
from handrail.project.project import Stop

ROLES = dict.fromkeys(["user", "human", "prompter"], "user")
ROLES |= dict.fromkeys(["assistant", "gpt", "bot", "model", "chatgpt", "ai", "claude"], "assistant")
ROLES |= dict.fromkeys(["system", "developer"], "system")
ROLES |= dict.fromkeys(["tool", "function", "observation", "ipython", "tool_response"], "tool")
ROLES |= dict.fromkeys(["function_call", "tool_call"], "call")

COLUMNS = {  # each part of a chat and the names of its column, in any letter case; the first counts
    "chosen": ["chosen"],
    "rejected": ["rejected"],
    "messages": ["messages", "conversations", "conversation"],
    "question": ["instruction", "prompt", "question", "query", "input", "q", "frage", "pregunta"],
    "answer": [
        *["completion", "response", "answer", "output", "a", "answers", "answerkey"],
        *["antwort", "réponse", "respuesta"],
    ],
    "before": ["context", "passage", "story", "text"],  # what the question is about
    "after": ["input"],  # what the instruction is to be done with
    "system": ["system", "system_prompt"],
    "history": ["history", "chat_history", "previous_turns"],  # earlier turns
    "choices": ["choices", "options"],  # of which the answer is one
    "reasoning": ["reasoning", "reasoning_content", "thinking"],  # before the answer
    "tools": ["tools", "functions"],
    "label": ["label"],  # is the answer a good one?
    "weight": ["weight"],
    "train": ["train"],
}
UNKNOWN = ["mask", "train_detail", "channel"]  # marks inside of messages
MORE = ["system", "tools", "label", "weight", "train"]
NO_QUESTION = "id uuid url source date author language lang license split file filename".split()

QUESTIONS = (
    "prompt and completion (or prompt/response, question/answer, query/response, input/output, q/a)"
)
EXAMPLES = {
    "messages": '{"messages": [{"role": "user", "content": "Hello"}, '
    '{"role": "assistant", "content": "Hi!"}]}',
    "ShareGPT": '{"conversations": [{"from": "human", "value": "Hello"}, '
    '{"from": "gpt", "value": "Hi!"}]}',
    QUESTIONS: '{"question": "Hello", "answer": "Hi!"}',
    "instruction, input and output": '{"instruction": "Say it in English.", "input": "Hallo", '
    '"output": "Hello"}',
    "a better and a worse answer": '{"prompt": "Hello", "chosen": "Hi!", "rejected": "What?"}',
    "two columns of text under any names, the first asks": '{"me": "Hello", "you": "Hi!"}',
}
CUT = "last question without an answer, cut off"
JOINED = "two messages of one person in a row, joined"
GREETING = "a greeting before the first question, put into the system message"
LATE = "a system message later on, put before the next question"
CONTEXT = "turns marked as not to be learned (weight 0 or train false), read only"
CALLS = "tool calls and results, written as text: <tool_call> and <tool_response>"
PICTURES = "pictures, left out: only the text is read"
THOUGHTS = "thoughts before an answer, written as text: <think>"


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
    left_out: dict = field(default_factory=dict)  # reason: where
    notes: list = field(default_factory=list)
    copies: list = field(default_factory=list)


# --- the files ---


def read_tables(path, chats, me):
    """Return {file name: [(where, row)]} of a file or folder; raise Stop when there is none or one
    cannot be read.
    """
    if not path.exists():
        raise Stop(f"There is no file or folder {path}. Look with `ls`, then name it again.")
    problems, found, passed, texts = [], {}, Counter(), []
    with TemporaryDirectory() as folder:
        try:
            files = list(text_files.opened(path, Path(folder)))
        except text_files.Unreadable as error:
            raise Stop(str(error)) from error
        for file in files:
            notes = set()
            try:
                if file.path != path and not text_files.is_read(file.path, text_files.KINDS):
                    passed[file.path.suffix] += 1
                elif text_files.is_table(file.path):
                    found[file.name] = numbered(file, problems, notes)
                elif table := talk_in_text(file, me):
                    found[file.name] = table
                else:
                    texts.append(file)
                    passed[file.path.suffix] += 1
            except text_files.Harmless as error:
                passed[file.path.suffix] += 1
                if len(files) == 1:
                    problems.append(str(error))
            except text_files.Unreadable as error:
                problems.append(str(error))
            except OSError as error:
                reason = f"cannot be opened ({error.strerror}). `ls -l` shows who may read it."
                problems.append(f"{file.path}: {reason}")
            chats.notes += [f"{file.name}: {note}." for note in sorted(notes - SILENT)]
        problems = [problem.replace(f"{folder}/", "") for problem in problems]
    text_files.raise_problems(problems)
    if not found:
        raise plain_text(path) if texts else text_files.no_files(path)
    if passed:
        chats.notes.insert(0, f"Passed over, not read: {text_files.endings(passed)}.")
    return found


SILENT = {"columns that change from row to row", "columns with other columns in them"}


def numbered(file, problems, notes):
    """Return [(where, row)] of a table."""
    lines = file.path.suffix.lower() in (".jsonl", ".csv", ".ndjson", ".tsv")
    unit = "line" if lines else "row"
    return [
        (f"{file.name}, {unit} {number}", row)
        for number, row in text_files.rows(file.path, problems, notes)
    ]


def talk_in_text(file, me):
    """Return the conversations in the lines of a chat as rows, or None if it is no chat."""
    if file.path.suffix.lower() not in (".txt", ".log", ""):
        return None
    turns = exports.read_lines([text for _, text in text_files.lines(file.path, set())])
    return turns and talks([(file.name, turns)], me)


# --- who is who ---


def talks(found, me):
    """Return [(where, row)] of [(where, turns)]; where no role says who answers, `me` does.

    Raise Stop with the names if that is not known.
    """
    names = Counter(turn["role"] for _, turns in found for turn in turns)
    if any(ROLES.get(name.strip().lower()) == "assistant" for name in names):
        return [(where, {"messages": turns}) for where, turns in found]
    if me not in names:
        known = ", ".join(name for name, _ in names.most_common(20))
        wrong = f"Nobody in {found[0][0]} is called {me!r}. " if me else ""
        raise Stop(
            f"{wrong}Whose messages are the answers that the model learns to give? Those of the "
            f"others become the questions. Say it with --me NAME, one of: {known}",
            wants="me",
        )
    rows = []
    for where, turns in found:
        for number, messages in enumerate(exports.conversations(turns, me), start=1):
            rows.append((f"{where}, talk {number}", {"messages": messages}))
    if not rows:
        raise Stop(f"In {found[0][0]}, {me} never answers anybody. Name somebody else: --me NAME")
    return rows


def nested_talks(table, column, me):
    """Return the table with the turns that are nested in its rows as `messages`, or None."""
    found = []
    tree = [(where, branch) for where, row in table for branch in exports.branches(row)]
    if tree:
        found = [(where, exports.as_turns(branch)) for where, branch in tree]
        return talks([(where, turns) for where, turns in found if turns], me)
    for where, row in table:
        turns = exports.find_turns(row[column]) if column in row else exports.talk(row)
        turns = turns or alternating(row)
        if turns:
            found.append((where, turns))
    if len(found) > len(table) / 2:
        return talks(found, me)
    grouped = [exports.as_turns(thread) for thread in exports.threads([row for _, row in table])]
    if not column and any(grouped):
        name = table[0][0].split(",")[0]
        return talks(
            [(f"{name}, talk {n}", turns) for n, turns in enumerate(grouped, 1) if turns], me
        )
    turns = exports.as_turns([row for _, row in table])
    if turns and not column and len({turn["role"] for turn in turns}) <= len(turns) / 2:
        return talks([(table[0][0].split(",")[0], turns)], me)
    return None


def alternating(row):
    """Return the turns of a row that holds nothing but a list of texts, said in turns, or None."""
    values = [exports.parsed(v) if exports.is_json(v) else v for v in row.values()]
    lists = [value for value in values if isinstance(value, list)]
    rest = [value for value in values if is_text(value) and not text_files.is_id(value)]
    turns = len(lists) == 1 and len(lists[0]) > 1 and all(map(exports.is_words, lists[0]))
    return history(lists[0][: len(lists[0]) // 2 * 2]) if turns and not rest else None


def opened(row):
    """Return a row with the columns of the objects in it as its own."""
    found = {}
    for name, value in row.items():
        value = exports.unpacked(value)
        found |= value if isinstance(value, dict) else {name: value}
    return found


# --- the form: which column is which part of a chat ---


def parts_of(columns):
    """Return {part of a chat: its column} by the names alone; empty when they make no chat."""
    named = {str(column).strip().lower(): column for column in columns}
    parts = {
        part: [named[name] for name in names if name in named] for part, names in COLUMNS.items()
    }
    parts = {part: found[0] for part, found in parts.items() if found}
    if parts.get("after") == parts.get("question"):
        parts.pop("after", None)
    if "choices" in parts and "label" in parts and "answer" not in parts:
        parts["answer"] = parts.pop("label")
    for needed in (
        ["chosen", "rejected", "question"],
        ["chosen", "rejected"],
        ["messages"],
        ["question", "answer"],
    ):
        if all(part in parts for part in needed):
            more = MORE
            if "question" in needed:
                more = ["before", "after", "history", "choices", "reasoning", *MORE]
            return {part: parts[part] for part in needed + more if part in parts}
    return {}


def with_choices(row):
    """Return a row whose choices are in columns A, B, C, ... with all of them in one."""
    letters = {name: row[name] for name in "ABCDEFGH" if name in row}
    if not {"A", "B", "C"} <= letters.keys():
        return row
    rest = {name: value for name, value in row.items() if name not in letters}
    return rest | {"choices": {letter: str(text) for letter, text in letters.items()}}


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
    columns = [
        c
        for c in columns
        if str(c).lower() not in NO_QUESTION and not str(c).lower().endswith("_id")
    ]
    texts = [c for c in columns if any(is_text(row.get(c)) for row in rows) and not ids(rows, c)]
    if len(columns) == 2 and texts == columns[:1] and sums(rows, columns[1]):
        texts = columns
    if texts and len(rows) > 10 and len({row.get(texts[0]) for row in rows}) < len(rows) / 5:
        return {}  # a handful of words over and over: a group, no question
    return dict(zip(["question", "answer"], texts, strict=True)) if len(texts) == 2 else {}


def ids(rows, column):
    """Return True if a column holds nothing but ids, links, dates, numbers."""
    cells = [str(row[column]) for row in rows if row.get(column) not in (None, "")]
    return bool(cells) and sum(map(text_files.is_id, cells)) > 0.9 * len(cells)


def sums(rows, column):
    """Return True if a column holds numbers that may be answers: not just 0, 1, 2, ..."""
    cells = [str(row.get(column, "")).strip() for row in rows]
    numbers = all(re.fullmatch(text_files.NUMBER, cell) for cell in cells if cell)
    return numbers and cells[:3] not in (["0", "1", "2"], ["1", "2", "3"])


def repeats(parts, rows):
    """Return True if the column before the question is only question and answer over again, as one
    text: it would give it away.
    """
    cells = [[row.get(parts[part]) for part in ("before", "question", "answer")] for row in rows]
    cells = [cell for cell in cells if all(map(is_text, cell))]
    return (
        sum(question in before and answer in before for before, question, answer in cells)
        > len(cells) / 2
    )


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
        if nested := nested_talks(table, column, me):
            return {"messages": "messages"}, nested
        parts = parts_of([other for other in columns if other != column]) or parts
    labels = {str(row.get(parts.get("label"))).lower() for row in rows}
    if not labels <= {"true", "false", "0", "1", "none"}:
        parts.pop("label", None)  # not good or bad, but some other group
    if {"before", "question", "answer"} <= parts.keys() and repeats(parts, rows):
        del parts["before"]
    if "answer" in parts and "choices" not in parts:
        check_answer(name, rows, parts["answer"])
    if not parts and (nested := nested_talks(table, "", me)):
        notes.append(f"{name}: the turns of a talk were found inside it; nothing else is used.")
        return {"messages": "messages"}, nested
    if not parts and any(opened(row).keys() != row.keys() for row in rows):
        table = [(where, opened(row)) for where, row in table]
        notes.append(f"{name}: the columns inside of objects are taken as columns.")
        return find_parts(name, table, chats, me)
    if not parts and (parts := two_columns(columns, rows)):
        asks, answers = parts.values()
        notes.append(
            f"{name}: the column names do not say which is which, so {asks!r} is taken as the "
            f"question and {answers!r} as the answer."
        )
        headed = not str(asks).startswith("column")
        if headed and re.search(r"\.[ct]sv\b", name):
            notes.append(
                f"{name}: the first line was taken as column names. If it is data, add a line "
                "above it: question,answer"
            )
    if not parts:
        examples = "\n".join(f"  {form}:\n    {line}" for form, line in EXAMPLES.items())
        raise Stop(
            f"{name}: its columns ({listed(columns)}) match no form of questions and answers. "
            f"Change it to one of these:\n{examples}"
        )
    if unused := [column for column in columns if column not in parts.values()]:
        check_unused(name, rows, parts, unused)
        notes.append(f"{name}: not used, the column{'s' * (len(unused) > 1)} {listed(unused)}.")
    return parts, table


def known_role(value):
    """Return True if somebody in a list of messages has a role that is known."""
    turns = exports.unpacked(value)
    turns = turns if isinstance(turns, list) else []
    names = [turn.get("role") or turn.get("from") for turn in turns if isinstance(turn, dict)]
    return any(str(name).strip().lower() in ROLES for name in names)


def check_answer(name, rows, column):
    """Raise Stop if what is called the answer is a list of links or ids."""
    cells = [row[column] for row in rows if is_text(row.get(column))]
    found = [cell for cell in cells if re.fullmatch(rf"{text_files.UUID}|\w+://\S+", cell.strip())]
    if len(found) > 0.9 * len(cells) > 0:
        raise Stop(
            f"{name}: the column {column!r} holds ids or links ({found[0][:60]}), no answers. Give "
            "the column with the answers the name answer, and this one another."
        )


def check_unused(name, rows, parts, unused):
    """Raise Stop if a column that nobody reads holds other columns and most of the file."""
    size = Counter()
    for row in rows:
        for column, value in row.items():
            size[column] += sum(map(len, exports.texts_in(exports.unpacked(value))))
    column = max(unused, key=lambda column: size[column])
    deep = any(isinstance(exports.unpacked(row.get(column)), (list, dict)) for row in rows)
    if deep and size[column] > sum(size[part] for part in parts.values()):
        raise Stop(
            f"{name}: most of its text is inside the column {column!r}, which matches no form of "
            f"questions and answers. If it is not meant, take it out; if it is, make it a list "
            f"of messages:\n  {EXAMPLES['messages']}"
        )


def plain_text(path):
    return Stop(
        f"{path}: this is plain text. To learn to answer, a model needs questions with answers, in "
        f"a .jsonl file, one per line:\n  {EXAMPLES[QUESTIONS]}\n"
        "If there are no questions, let a model learn the text itself: handrail new my-model "
        f"--data {shlex.quote(str(path))}"
    )


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


def role(message):
    name = message.get("role") or message.get("from")
    if str(name).strip().lower() not in ROLES:
        raise Unusable(f"unknown role {name!r}" if name else "a message without a role")
    return ROLES[str(name).strip().lower()]


def content(message, remarks):
    """Return the text of a message, which may come in parts; pictures are left out."""
    if not message.keys() & {"content", "value", "text", "tool_calls", "function_call"}:
        raise Unusable("a message without content")
    said = next((message[key] for key in exports.SAID if message.get(key) is not None), None)
    if isinstance(said, dict):
        said = said.get("parts") or [said]
    if isinstance(said, list):
        texts = [part_text(part, remarks) for part in said]
        if said and not any(texts):
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
    part = {"text": part} if isinstance(part, str) else part
    kind = part.get("type") if isinstance(part, dict) else None
    if kind == "tool_use":
        remarks.append(CALLS)
        return calls({"function_call": {"name": part.get("name"), "arguments": part.get("input")}})
    if kind == "tool_result":
        remarks.append(CALLS)
        result = content({"content": part.get("content")}, remarks)
        return f"<tool_response>\n{result}\n</tool_response>"
    if kind == "thinking" and is_text(part.get("thinking")):
        remarks.append(THOUGHTS)
        return f"<think>\n{part['thinking'].strip()}\n</think>\n\n"
    if isinstance(part, dict) and isinstance(part.get("text"), str):
        return part["text"]
    remarks.append(PICTURES)
    return ""


def calls(message):
    """Return the calls of tools in a message, as text."""
    found = message.get("tool_calls") or [message.get("function_call")]
    texts = []
    for call in filter(None, found if isinstance(found, list) else [found]):
        call = call.get("function", call) if isinstance(call, dict) else call
        if isinstance(call, dict) and isinstance(call.get("arguments"), str):
            call = call | {"arguments": exports.unpacked(call["arguments"])}
        texts.append(call if isinstance(call, str) else json.dumps(call, ensure_ascii=False))
    return "\n".join(f"<tool_call>\n{text}\n</tool_call>" for text in texts)


def is_learned(marks):
    """Return False for what is marked as not to be learned; raise Stop for a mark between."""
    weight = marks.get("weight", marks.get("loss_weight"))
    if unknown := [mark for mark in UNKNOWN if marks.get(mark) is not None]:
        raise Stop(
            f"There is a mark {unknown[0]!r} in a message, and what it means is not known. Write "
            '"train": false where the model must not learn a message, and take this mark out.'
        )
    if weight not in (None, 0, 1, "0", "1", "0.0", "1.0"):
        raise Stop(
            f"There is a weight of {weight!r}. What is learned here is learned with weight 1, or "
            "not at all (0). Round the weights, or take them out, then type the same command again."
        )
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
    who, text, called = role(message), content(message, remarks), calls(message)
    if who == "call":
        who, called, text = "assistant", f"<tool_call>\n{text}\n</tool_call>", ""
    if who == "tool":
        who, text = "user", f"<tool_response>\n{text}\n</tool_response>"
        remarks.append(CALLS)
    if called:
        text = f"{text}\n{called}".strip()
        remarks.append(CALLS)
    thought = message.get("reasoning_content") or message.get("reasoning")
    thought = thought or message.get("thinking")
    if who == "assistant" and is_text(thought):
        text = f"<think>\n{thought.strip()}\n</think>\n\n{text}"
        remarks.append(THOUGHTS)
    made = {"role": who, "content": text}
    if who == "assistant" and not is_learned(message):
        made["train"] = False
        remarks.append(CONTEXT)
    return made


# --- one row ---


def tidy(messages, remarks):
    """Return messages in the order that chat templates want: one system message first, then user
    and assistant in turns, each with something to say; raise Unusable.
    """
    blank = {m["role"] for m in messages if not m["content"].strip()} - {"system"}
    messages = [m for m in messages if m["role"] != "system" or m["content"].strip()]
    first = list(takewhile(lambda m: m["role"] == "system", messages))
    system, talk = "\n\n".join(m["content"] for m in first), []
    for message in messages[len(first) :]:
        if message["role"] == "system":
            message = {"role": "user", "content": message["content"]}
            remarks.append(LATE)
        if talk and {**message, "content": ""} == {**talk[-1], "content": ""}:
            talk[-1] = message | {"content": f"{talk[-1]['content']}\n\n{message['content']}"}
            remarks.append(JOINED)
        else:
            talk.append(message)
    roles = [message["role"] for message in talk]
    faults = {
        "no answer (no assistant message)": "assistant" not in roles,
        "begins with an answer, and no question is there": "user" not in roles,
        "empty answer": "assistant" in blank,
        "empty question": "user" in blank,
    }
    if found := [reason for reason, there in faults.items() if there]:
        raise Unusable(found[0])
    if roles[0] == "assistant":
        greeting, talk = talk[0]["content"], talk[1:]
        system = f"{system}\n\nYou have greeted: {greeting}".strip()
        remarks.append(GREETING)
    if talk[-1]["role"] == "user":
        remarks.append(CUT)
    while talk and (talk[-1]["role"] == "user" or talk[-1].get("train") is False):
        talk.pop()
    if not any(message["role"] == "assistant" for message in talk):
        raise Unusable("no answer to learn")
    return [{"role": "system", "content": system}] * bool(system) + talk


def said_by(who, value):
    """Return a column as messages: a list of them, or one that `who` says."""
    found = exports.unpacked(value)
    messages = isinstance(found, list) and all(isinstance(turn, dict) for turn in found)
    said = messages and all(turn.keys() & {"role", "from"} for turn in found)
    return found if said else [{"role": who, "content": value}]


def asked(cell, remarks):
    """Return what comes before the answer, as messages."""
    question = cell.get("question")
    if is_text(question) and said_by("user", question)[0].get("content") is question:
        before, after = (
            content({"content": cell.get(part)}, remarks) for part in ("before", "after")
        )
        question = f"{before}\n{question}" if before.strip() else question
        question = f"{question}\n\n{after}" if after.strip() else question
        if cell.get("choices"):
            letters = choices(cell["choices"])
            lines = [f"{letter}. {text}" for letter, text in letters.items()]
            question = "\n".join([question, *lines])
    return [*history(cell.get("history")), *said_by("user", question)]


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
    if isinstance(value, dict):
        return value
    if not isinstance(value, list) or not value:
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
    answer = cell["answer"]
    if isinstance(answer, dict) and "text" in answer:
        answer = answer["text"]
    if isinstance(answer, list) and answer and all(map(is_text, answer)):
        answer = answer[0]
    if cell.get("choices"):
        found, answer = choices(cell["choices"]), str(answer).strip()
        letters = list(found)
        if answer in found.values():
            answer = next(letter for letter in letters if found[letter] == answer)
        place = int(answer) - cell.get("first", 0) if answer.isdigit() else -1
        if answer not in found and 0 <= place < len(letters):
            answer = letters[place]
        if answer not in found:
            raise Unusable("an answer that is none of the choices")
        answer = f"{answer}. {found[answer]}"
    return answer


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
            said[-1]["content"] = f"<think>\n{cell['reasoning']}\n</think>\n\n{said[-1]['content']}"
            remarks.append(THOUGHTS)
    messages = tidy(with_system(cell, said, remarks), remarks)
    return {"messages": messages}, remarks


def with_system(cell, messages, remarks):
    """Return messages with the system message and the tools of the row."""
    system = content({"content": cell.get("system")}, remarks)
    if system.strip() and messages[:1] and messages[0]["role"] != "system":
        messages = [{"role": "system", "content": system}, *messages]
    tools = cell.get("tools")
    if tools and tools != "[]":
        tools = tools if isinstance(tools, str) else json.dumps(tools, ensure_ascii=False)
        text = f"You can call these tools:\n<tools>\n{tools}\n</tools>"
        at = sum(message["role"] == "system" for message in messages[:1])
        messages = [*messages[:at], {"role": "system", "content": text}, *messages[at:]]
        remarks.append(CALLS)
    return messages


def spoken(text):
    """Return the messages of a whole talk in one text, as in "Human: Hello\\n\\nAssistant: Hi!"."""
    if not (isinstance(text, str) and re.match(r"\s*Human:", text)):
        return said_by("assistant", text)
    pieces = re.split(r"(?:^\s*|\n\n)(Human|Assistant):", text)
    names = {"Human": "user", "Assistant": "assistant"}
    return [
        {"role": names[who], "content": said.strip()}
        for who, said in zip(pieces[1::2], pieces[2::2], strict=True)
    ]


def pair(cell):
    """Return {"messages": the prompt, "chosen": text, "rejected": text}, and remarks.

    Where the two are the same, they are the prompt.
    """
    remarks, prompted = [], cell.get("question") is not None
    better, worse = (
        clean(said_by("assistant", cell[side]) if prompted else spoken(cell[side]), remarks)
        for side in ("chosen", "rejected")
    )
    if better == worse:
        raise Unusable("chosen and rejected are the same")
    same = len(list(takewhile(lambda two: two[0] == two[1], zip(better, worse, strict=False))))
    prompt, ends = better[:same], [*better[same:], *worse[same:]]
    if (
        len(ends) != 2
        or len(better) != len(worse)
        or any(end["role"] != "assistant" for end in ends)
    ):
        raise Unusable("chosen and rejected are not one answer each to the same question")
    if prompt and prompt[-1]["role"] == "assistant":
        raise Unusable("an answer right before the two answers")
    if prompted and [m["role"] for m in prompt if m["role"] != "system"][:1] != ["user"]:
        prompt = clean(asked(cell, remarks), remarks) + prompt
    prompt = with_system(cell, prompt, remarks)
    *prompt, _ = tidy([*prompt, ends[1]], [])
    *prompt, _ = tidy([*prompt, ends[0]], remarks)
    return {
        "messages": prompt,
        "chosen": ends[0]["content"],
        "rejected": ends[1]["content"],
    }, remarks


# --- all rows ---


def convert(chats, parts, table):
    """Add the rows of one file to `chats`; return {remark: where}."""
    remarks, left_out = defaultdict(list), defaultdict(list, chats.left_out)
    first = first_choice(parts, table)
    for where, row in table:
        try:
            cell = {part: worded(row.get(column)) for part, column in parts.items()}
            cell |= {"first": first} if "choices" in parts else {}
            made, said = (pair if chats.pairs else conversation)(cell)
        except Unusable as reason:
            left_out[str(reason)].append(where)
            continue
        except Stop as stop:
            raise Stop(f"{where}: {stop}") from stop
        chats.rows.append(made)
        chats.places.append(where)
        for remark in dict.fromkeys(said):
            remarks[remark].append(where)
    chats.left_out = dict(left_out)
    return remarks


def some(places):
    more = f" and {len(places) - text_files.NAMED} more" if len(places) > text_files.NAMED else ""
    return "; ".join(places[: text_files.NAMED]) + more


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
    tables = {file: table for file, table in tables.items() if table}
    if not tables:
        raise Stop(f"{name}: it has no rows. Is it the right file?")
    found = {file: find_parts(file, table, chats, me) for file, table in tables.items()}
    parts = {file: part for file, (part, _) in found.items()}
    tables = {file: table for file, (_, table) in found.items()}
    chats.total = sum(map(len, tables.values()))
    chats.pairs = any("chosen" in found for found in parts.values())
    if others := [file for file in parts if ("chosen" in parts[file]) != chats.pairs]:
        raise Stop(
            f"{name}: some files hold pairs (chosen and rejected), these do not: {some(others)}. "
            "Use one kind at a time."
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
            for reason, places in list(chats.left_out.items())[: text_files.NAMED]
        )
        raise Stop(
            f"{name}: none of the {chats.total:,} rows can be used ({chats.form}). Why:\n{reasons}"
        )
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


def write_chats(rows, file):
    """Write rows as JSON lines: under another name first, so that there is never half a file."""
    part = file.with_name(file.name + ".part")
    with open(part, "w", encoding="utf-8") as out:
        out.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    part.replace(file)


def split(rows):
    """Return (train, held out): the first question decides, so no question is on both sides.

    About one in ten is held out.
    """
    questions = [
        next(message["content"] for message in row["messages"] if message["role"] == "user")
        for row in rows
    ]
    order = sorted(set(questions), key=lambda question: (zlib.crc32(question.encode()), question))
    held = {question for question in order if zlib.crc32(question.encode()) % 10 == 0}
    if len(order) > 1:
        held = (held or {order[0]}) - ({order[-1]} if len(held) == len(order) else set())
    train, out = [], []
    for row, question in zip(rows, questions, strict=True):
        (out if question in held else train).append(row)
    return train, out
