"""Which questions are kept from training, to ask them later."""

import zlib
from collections import defaultdict

from handrail.data.chats import first_question, split

FEW = 200  # rows; of fewer, a fact that is held out is missed
LABEL = 4  # an answer that more rows have is a label, not a fact asked in other words


def hold_out(rows):
    """Return (train, held out). A held-out row whose answer is also learned has "same_as"."""
    train, held = split(rows)
    if len(rows) < FEW:
        chosen = choose_few(rows)
        train = [row for row in rows if first_question(row) not in chosen]
        held = [row for row in rows if first_question(row) in chosen]
    for row, same in zip(held, others_with_answer(held, train), strict=True):
        if same:
            row["same_as"] = same[0].get("where", "")
    return train, held


def choose_few(rows):
    """Return the questions to hold out of few rows, where each costs a fact that is not learned.

    One in twelve, four at least, and half of them questions whose answer is still learned from
    another one.
    """
    mixed = sorted(rows, key=lambda row: zlib.crc32(first_question(row).encode()))
    questions = list(dict.fromkeys(map(first_question, mixed)))
    number = min(max(4, len(rows) // 12), len(questions) // 5)
    chosen, sources = [], set()  # sources: the questions from which those answers are learned
    for row, same in zip(mixed, others_with_answer(mixed, rows), strict=True):
        asked = first_question(row)
        if same and asked not in sources and len(chosen) < number / 2:
            chosen.append(asked)
            sources |= set(map(first_question, same))
    rest = [asked for asked in questions if asked not in sources.union(chosen)]
    return {*chosen, *rest[: number - len(chosen)]}


def others_with_answer(rows, known):
    """Return, per row, those of the `known` rows that have its answer under another question.

    An answer that many questions have is a label, such as "positive", and not a fact: it has none.
    """
    groups = defaultdict(list)
    for other in known:
        groups[answer_facts(other)].append(other)
    found = []
    for row in rows:
        asked, same = first_question(row), []
        for other in known if len(known) < FEW else groups[answer_facts(row)]:
            if alike(row, other) and first_question(other) != asked:
                same.append(other)
        found.append(same if len(same) <= LABEL and any(answer_facts(row)) else [])
    return found


def alike(row, other):
    """Return True if two answers have the same numbers and names, and nearly the same words."""
    (*ours, words), (*theirs, others) = answer_facts(row), answer_facts(other)
    return ours == theirs and len(words & others) >= 0.8 * max(len(words), len(others))


def answer_facts(row):
    """Return the numbers, names and longer words of an answer, as three sets."""
    from handrail.program.replies import facts

    return tuple(map(frozenset, facts(row["messages"][-1]["content"])))
