"""Mistakes in a file of questions and answers that a model would learn like everything else."""

import re
import unicodedata

from handrail.data.chats import first_question

UNWRITTEN = (
    r"todo|tbd|fixme|n/?a|xxx+|lorem ipsum.*|placeholder|answer( here)?|your answer( here)?|\?*"
)


def contradictions(rows):
    """Return where one question has two different answers."""
    first, found = {}, []
    for row in rows:
        if len(row["messages"]) > 3:  # only what follows the same words can contradict
            continue
        question, answer = plain(first_question(row)), row["messages"][-1]["content"]
        before = first.setdefault(question, row)
        if plain(before["messages"][-1]["content"]) != plain(answer):
            found.append(f"{row['where']} (other than {before['where']})")
    return found


def placeholders(rows):
    """Return where an answer (or a question) was never written."""
    found = []
    for row in rows:
        for message in row["messages"][-2:]:
            text = message["content"].strip()
            if re.fullmatch(UNWRITTEN, text.strip(" .!?:*-_[]<>{}()"), re.I):
                found.append(f"{row['where']} ({text})")
    return found


def plain(text):
    """Return a text without what a tokenizer or template may change: spaces, case, letter forms."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())
