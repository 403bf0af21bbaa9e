"""Exports of chats: one rule finds the turns in whatever is around them, and who says each.

A turn becomes {"role": who, "content": what}, with the marks that it has. Nothing here knows which
program made an export, except for two forms that are no nested list: WhatsApp's lines of text, and
ChatGPT's tree.
"""

import ast
import json
import re
from itertools import dropwhile, groupby, pairwise

WHO = "role from sender sender_name author creator speaker user username participant name".split()
SAID = "content value text body message parts msg utterance".split()
WHEN = "date timestamp timestamp_ms ts created_at create_time time".split()
CALLS = ["tool_calls", "function_call"]
THOUGHTS = ["reasoning_content", "reasoning", "thinking"]
UNKNOWN = ["mask", "train_detail", "channel"]  # marks that nobody can obey
MARKS = ["weight", "loss_weight", "train", "loss", *UNKNOWN, *CALLS, *THOUGHTS]

DATE = r"\d{1,4}[./-] ?\d{1,2}[./-] ?\d{1,4}\.?"
CLOCK = r"\d{1,2}[:.]\d\d(?:[:.]\d\d)?(?:\s?[APap]\.?\s?[Mm]\.?| Uhr)?"
TIME = rf"{DATE}(?:T|,? +(?:(?:à|at|um|klo) )?){CLOCK}"
STAMP = rf"(?:\[({TIME})\]|({TIME})\s-):? +"
LINE = re.compile(rf"{STAMP}([^:]{{1,60}}?): ?(.*)", re.S)  # a turn of WhatsApp
NOTICE = re.compile(STAMP)
NAMED = re.compile(
    r"(?:\[?\d\d?:\d\d(?::\d\d)?\]? +)?(?:<([^<>]{1,40})>|([^\W\d][^:\n]{0,30}):) +(.*)"
)
UNSEEN = dict.fromkeys(map(ord, "\u200e\u200f\u202a\u202b\u202c\u202f\u2068\u2069\ufeff"))
# how phones say that a picture is not in the file, or that a message was edited
OMITTED = re.compile(r"null|<[^<>]{3,40}>|\w+ (omitted|weggelassen|omitida|omitido|absente?)", re.I)
EDITED = re.compile(r"\s*<[^<>]{3,40}>$")
CONVERSATION = r"(conversation|conv|thread|dialog|dialogue|chat|session|message_tree|topic)_?id"
TURNS = 16  # of a chat that never ends, at most so many make one conversation


# --- in JSON ---


def unpacked(value):
    """Return the list or object that is in a cell as text, or the cell as it is."""
    starts = isinstance(value, str) and re.match(r"\s*(\[\s*)?\{\s*[\"']\w+[\"']\s*:", value)
    return parsed(value) if starts else value


def parsed(text):
    """Return what a text says as JSON, or as Python or numpy print it, or the text as it is."""
    printed = re.sub(r"\}\s*\n ?\{", "}, {", text)  # numpy prints a list without commas
    for read, form in ((json.loads, text), (ast.literal_eval, text), (ast.literal_eval, printed)):
        try:
            return read(form)
        except (ValueError, SyntaxError):
            pass
    return text


def joined(parts):
    """Return the text of a content in parts (texts, or objects with a text), else None."""
    if isinstance(parts, dict) and "parts" in parts:
        parts = parts["parts"]
    parts = parts if isinstance(parts, list) else [parts]
    texts = [part.get("text") if isinstance(part, dict) else part for part in parts]
    known = [text for text in texts if isinstance(text, str)]
    return "".join(known) if known or not parts else None


def texts_in(value):
    """Yield all texts inside lists and objects."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, dict)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from texts_in(inner)


def repaired(text):
    """Return a text whose UTF-8 was taken for Latin-1 (as Facebook exports it) as it was typed."""
    if not isinstance(text, str) or text.isascii():
        return text
    try:
        return text.encode("latin-1").decode()
    except ValueError:
        return text


def as_turn(item):
    """Return an object as a turn with its marks, or None if nobody says anything in it."""
    if not isinstance(item, dict):
        return None
    if isinstance(item.get("message"), dict):  # a node of ChatGPT's tree
        item = item["message"]
    who = next((item[key] for key in WHO if item.get(key)), None)
    if isinstance(who, dict):
        who = who.get("role") or who.get("name")
    content = said_in(item)
    if not isinstance(who, str) or content is None and not item.keys() & {*SAID, *CALLS}:
        return None
    when = next((str(item[key]) for key in WHEN if item.get(key)), "")
    marks = {key: item[key] for key in MARKS if item.get(key) is not None}
    return {"role": repaired(who), "content": repaired(content), "when": when} | marks


def said_in(item):
    """Return the content of a message; under an unknown name: the longest text of several words."""
    found = next((item[key] for key in SAID if item.get(key) is not None), None)
    if isinstance(found, dict):
        return found["parts"] if "parts" in found else joined(found)
    if item.keys() & {*SAID, *CALLS}:
        return found
    others = [text for name, text in item.items() if name not in WHO and is_words(text)]
    return max(others, key=len, default=None)


def is_words(value):
    return isinstance(value, str) and " " in value.strip()


def path_to(nodes, last, parent):
    """Return the nodes of a tree from its root to `last`; `parent` names the one before a node."""
    path = []
    while last in nodes and len(path) < len(nodes):
        path.append(nodes[last])
        last = nodes[last].get(parent)
    return path[::-1]


def as_turns(value, last=None):
    """Return the turns in a list (or a tree) of them, or None if it is something else."""
    if isinstance(value, dict) and len(value) > 1:
        nodes = [node for node in value.values() if isinstance(node, dict)]
        tree = len(nodes) == len(value) and all("parent" in node for node in nodes)
        last = last if last in value else list(value)[-1]  # the newest leaf
        value = path_to(value, last, "parent") if tree else None
    if not isinstance(value, list) or not value:
        return None
    found = [turn for turn in map(as_turn, value) if turn]
    found = [turn for turn in found if turn["content"] is not None or turn.keys() & {*CALLS}]
    if not found or 2 * len(found) < len([item for item in value if isinstance(item, dict)]):
        return None
    times = [turn["when"] for turn in found if turn["when"]]
    if len(times) == len(found) and times[0] > times[-1]:
        found.reverse()  # the newest was first
    return found


def threads(rows):
    """Return lists of turns from rows that are one message each and name their conversation.

    Where a row names the one that it answers (its parent), each last answer has a list of its own.
    """
    columns = [key for key in rows[0] if re.fullmatch(CONVERSATION, str(key), re.I)]
    key = next((key for key in columns if len({str(row.get(key)) for row in rows}) > 1), None)
    nodes = {row["message_id"]: row for row in rows if row.get("message_id")}
    parents = {row.get("parent_id") for row in rows}
    if len(nodes) == len(rows) and not parents.isdisjoint(nodes):
        leaves = [name for name in nodes if name not in parents]
        yield from (path_to(nodes, leaf, "parent_id") for leaf in leaves)
    elif key:
        for name in dict.fromkeys(str(row.get(key)) for row in rows):
            yield [row for row in rows if str(row.get(key)) == name]


def size(value):
    return len(json.dumps(value, default=str))


def find_turns(value, last=None, depth=4):
    """Return the longest list of turns that is anywhere in a value, or None."""
    value = unpacked(value)
    if (found := as_turns(value, last)) or depth == 0 or not isinstance(value, dict):
        return found
    last = value.get("current_node")
    inner = [find_turns(part, last, depth - 1) for part in value.values()]
    return max(filter(None, inner), key=size, default=None)


def branches(row):
    """Yield the messages to each last answer of a row that is a tree of replies."""
    root = row["prompt"] if isinstance(row.get("prompt"), dict) else row
    replies = root.get("replies")
    for reply in replies if isinstance(replies, list) else []:
        if isinstance(reply, dict):
            for path in list(branches(reply)) or [[reply]]:
                yield [root, *path]


def talk(row):
    """Return the turns in a row (of a tree, the first branch) if they are most of it, else None."""
    if first := next(branches(row), None):
        return as_turns(first)
    nested = [value for value in row.values() if isinstance(value, (list, dict)) or is_json(value)]
    found = find_turns(row) if nested else None
    rest = sum(len(value) for value in row.values() if isinstance(value, str))
    return found if found and size(nested) > rest - size(nested) / 2 else None


def is_json(value):
    return isinstance(value, str) and value.lstrip()[:1] in ("[", "{")


# --- in lines of text ---


def read_lines(lines):
    """Return the turns of a chat in lines of text (WhatsApp, or "Name: text"), or None.

    What a phone says about itself (pictures left out, messages deleted) is no turn.
    """
    lines = [line.rstrip("\r\n") for line in lines]
    pattern = LINE if is_stamped(lines[:100]) else NAMED
    if pattern is NAMED and not is_transcript(lines):
        return None
    turns = []
    for line in lines:
        plain = line.translate(UNSEEN).strip()
        if found := pattern.match(plain):
            *when, who, said = found.groups()
            if pattern is NAMED:
                who, when = when[0] or who, []
            notice = OMITTED.fullmatch(said) or re.match(r".*?: ?\u200e", line)
            content = None if notice else EDITED.sub("", said)
            turns.append({"role": who.strip("~ \xa0"), "content": content})
            turns[-1]["when"] = next(filter(None, when), "")
        elif pattern is LINE and NOTICE.match(plain):
            turns.append({"role": "", "content": None, "when": ""})
        elif turns and turns[-1]["content"] is not None:
            turns[-1]["content"] += f"\n{plain}"
    turns = [turn | {"content": turn["content"].strip()} for turn in turns if turn["content"]]
    return turns or None


def is_stamped(lines):
    """Return True for the lines of a chat with the time before each turn, as WhatsApp writes it.

    A diary and a log have times too; in a chat, most of them come before one of a few names.
    """
    filled = [line.translate(UNSEEN).strip() for line in lines if line.strip()]
    times = [line for line in filled if NOTICE.match(line)]
    names = [found[3] for found in map(LINE.match, times) if found]
    known = 1 < len(set(names)) <= len(names) / 2 and len(names) > len(times) / 2
    return known and len(names) > max(2, len(filled) / 5)


def is_transcript(lines):
    """Return True if most lines begin with a name, and a few names say everything."""
    lines = [line.translate(UNSEEN).strip() for line in lines if line.strip()]
    found = list(filter(None, map(NAMED.match, lines)))
    names = {match[1] or match[2] for match in found}
    return len(found) > 3 and 2 <= len(names) <= len(found) / 2 and len(found) > 0.7 * len(lines)


# --- from one endless chat to conversations ---


def conversations(turns, me):
    """Yield lists of turns: a day's talk (at most TURNS turns) that ends with what `me` says.

    `me` becomes the assistant, all others the user; where there are several others, their names
    stay in front of what they say.
    """
    others = {turn["role"] for turn in turns} - {me}
    changes = sum(day_of(turn) != day_of(after) for turn, after in pairwise(turns))
    cut = changes < len(turns) / 4  # else the days say nothing
    for _, group in groupby(spoken(turns, cut), key=lambda said: said[1]):
        found = []
        for who, _, text in group:
            named = f"{who}: {text}" if len(others) > 1 and who != me else text
            found.append({"role": "assistant" if who == me else "user", "content": named})
        for start in range(0, len(found), TURNS):
            part = found[start : start + TURNS]
            part = list(dropwhile(is_answer, part))  # there is no question before it
            while part and not is_answer(part[-1]):
                part.pop()
            if part:
                yield part


def is_answer(message):
    return message["role"] == "assistant"


def spoken(turns, cut):
    """Yield (who, day, text): what one person says in a row, on one day if `cut`, is one text."""
    for (who, day), group in groupby(turns, lambda turn: (turn["role"], cut and day_of(turn))):
        contents = (joined(turn["content"]) for turn in group)
        text = "\n".join(content for content in contents if content and content.strip())
        if text:
            yield who, day, text


def day_of(turn):
    return re.split(r"[T, ]", turn["when"])[0]


def written(turns):
    """Return turns as one text, a blank line between two."""
    said = ((turn["role"], joined(turn["content"])) for turn in turns)
    return "\n\n".join(f"{who}: {text}" for who, text in said if text and text.strip())
