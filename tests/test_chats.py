"""Chats: every form that people have becomes the same messages, and no row is lost without its name
and the reason.
"""

import gzip
import json
import os

import pytest

from handrail.data import text_files
from handrail.data.chats import read_chats, split
from handrail.data.text_files import write_rows
from handrail.project.project import Stop

U, A, S = (
    lambda text, role=role: {"role": role, "content": text}
    for role in ("user", "assistant", "system")
)
PART = {"type": "text", "text": "Hi!"}
TALK = [U("Hello"), A("Hi!")]
LONG = [S("Be kind."), U("Hello"), A("Hi!"), U("And now?"), A("Tea.")]

DIALOG = [U("Hello to you"), A("Hi to you")]

FORMS = {  # a row and the messages that it must become
    "messages": ({"messages": LONG, "id": 7}, LONG),
    "conversation": ({"Conversation": TALK, "system": "Be kind."}, [S("Be kind."), *TALK]),
    "turns out of order": (
        {"messages": [A("Welcome!"), U("Hel"), S("Be kind."), U("lo"), A("Hi!"), U("Bye")]},
        [S("You have greeted: Welcome!"), U("Hel\n\nBe kind.\n\nlo"), A("Hi!")],
    ),
    "developer": (
        {"messages": [{"role": "developer", "content": "Be kind."}, *TALK]},
        [S("Be kind."), *TALK],
    ),
    "pictures": (
        {"messages": [U([{"type": "image_url", "image_url": {"url": "x"}}, PART]), A([PART])]},
        [U("Hi!"), A("Hi!")],
    ),
    "not learned": (
        {"messages": [U("Hello"), A("No.") | {"weight": 0}, U("Please?"), A("Hi!")]},
        [U("Hello"), A("No.") | {"train": False}, U("Please?"), A("Hi!")],
    ),
    "history": (
        {"instruction": "And now?", "output": "Tea.", "history": [["Hello", "Hi!"]]},
        LONG[1:],
    ),
    "choices": (
        {"question": "6 * 7?", "choices": ["41", "42"], "answer": 1},
        [U("6 * 7?\nA. 41\nB. 42"), A("B. 42")],
    ),
    "choices in answers": (
        {"question": "6 * 7?", "answers": ["41", "42"], "correct": 1},
        [U("6 * 7?\nA. 41\nB. 42"), A("B. 42")],
    ),
    "Gemini's parts": (
        {
            "contents": [
                {"role": "user", "parts": [{"text": "Hello"}]},
                {"role": "model", "parts": [{"text": "Hi!"}]},
            ]
        },
        TALK,
    ),
    "parts in messages": (
        {"messages": [{"role": "user", "parts": ["Hello"]}, {"role": "model", "parts": ["Hi!"]}]},
        TALK,
    ),
    "choices in columns": (
        {"question": "6 * 7?", "A": "41", "B": "42", "C": "43", "answer": "B"},
        [U("6 * 7?\nA. 41\nB. 42\nC. 43"), A("B. 42")],
    ),
    "thoughts": (
        {"messages": [U("Hello"), A("Hi!") | {"reasoning_content": "Greet."}]},
        [U("Hello"), A("<think>\nGreet.\n</think>\n\nHi!")],
    ),
    "tools": (
        {
            "messages": [
                U("2 + 2?"),
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"function": {"name": "add", "arguments": '{"a": 2}'}}],
                },
                {"role": "tool", "content": "4"},
                A("Four."),
            ]
        },
        [
            U("2 + 2?"),
            A('<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>'),
            U("<tool_response>\n4\n</tool_response>"),
            A("Four."),
        ],
    ),
    "tools in parts": (
        {
            "messages": [
                U([{"type": "text", "text": "2 + 2?"}]),
                A([{"type": "tool_use", "name": "add", "input": {"a": 2}}]),
                U([{"type": "tool_result", "content": "4"}]),
                A([{"type": "text", "text": "Four."}]),
            ]
        },
        [
            U("2 + 2?"),
            A('<tool_call>\n{"name": "add", "arguments": {"a": 2}}\n</tool_call>'),
            U("<tool_response>\n4\n</tool_response>"),
            A("Four."),
        ],
    ),
    "an answer that is JSON": (
        {"question": "Hello", "answer": '{"say": "Hi!"}'},
        [U("Hello"), A('{"say": "Hi!"}')],
    ),
    "texts in turns": ({"id": 7, "dialog": ["Hello to you", "Hi to you"]}, DIALOG),
    "columns in an object": ({"data": {"question": "Hello", "answer": "Hi!"}, "n": 3}, TALK),
    "messages as text": ({"messages": json.dumps(TALK)}, TALK),
    "an object as text": ({"conversation": json.dumps({"messages": TALK})}, TALK),
    "one level down": ({"custom_id": "1", "body": {"model": "x", "messages": TALK}}, TALK),
    "ChatGPT's tree": (
        {
            "title": "A long title of this",
            "current_node": "c2",
            "mapping": {
                "r": {"id": "r", "message": None, "parent": None},
                "c1": {
                    "parent": "r",
                    "message": {"author": {"role": "user"}, "content": {"parts": ["Hello"]}},
                },
                "c3": {
                    "parent": "c1",
                    "message": {"author": {"role": "assistant"}, "content": {"parts": ["No!"]}},
                },
                "c2": {
                    "parent": "c1",
                    "message": {"author": {"role": "assistant"}, "content": {"parts": ["Hi!"]}},
                },
            },
        },
        TALK,
    ),
    "Claude's export": (
        {
            "uuid": "12345678-1234-1234-1234-123456789012",
            "name": "A title",
            "chat_messages": [
                {"sender": "human", "text": "Hello", "created_at": "2024-05-01T00:00:00Z"},
                {"sender": "assistant", "text": "Hi!", "created_at": "2024-05-01T00:01:00Z"},
            ],
        },
        TALK,
    ),
    "content in parts": (
        {"messages": [U([PART | {"text": "Hel"}, PART | {"text": "lo"}], "User"), A([PART])]},
        TALK,
    ),
    "ShareGPT": (
        {"conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi!"}]},
        TALK,
    ),
    "more roles": (
        {
            "conversations": [
                {"from": "prompter", "value": "Hello"},
                {"from": "ChatGPT", "value": "Hi!"},
            ]
        },
        TALK,
    ),
    "prompt/completion": ({"prompt": "Hello", "completion": "Hi!"}, TALK),
    "lists": ({"prompt": LONG[:4], "completion": LONG[4:]}, LONG),
    "prompt/response": ({"PROMPT": "Hello", "Response": "Hi!"}, TALK),
    "question/answer": ({"Question": "Hello", " Answer": "Hi!", "system": ""}, TALK),
    "query/response": ({"query": "Hello", "response": "Hi!"}, TALK),
    "input/output": ({"input": "Hello", "output": "Hi!"}, TALK),
    "q/a": ({"Q": "Hello", "A": "Hi!"}, TALK),
    "instruction": ({"instruction": "Hello", "input": "", "output": "Hi!"}, TALK),
    "instruction with input": (
        {"instruction": "Add.", "input": "1, 2", "output": "3!"},
        [U("Add.\n\n1, 2"), A("3!")],
    ),
    "rendered again": (
        {"instruction": "Hello", "output": "Hi!", "text": "### Hello\n### Hi!"},
        TALK,
    ),
    "village": (
        {"text": "Tom ran.", "nats": 1.5, "question": "Who?", "answer": "Tom"},
        [U("Tom ran.\nWho?"), A("Tom")],
    ),
    "two columns": ({"id": "x1", "me": "Hello", "you": "Hi!"}, TALK),
    "two columns, one of numbers": ({"ask": "6 * 7", "say": 42}, [U("6 * 7"), A("42")]),
    "numbers": ({"question": 6, "answer": 0.5}, [U("6"), A("0.5")]),
    "numbers in messages": ({"messages": [U(6), A(42)]}, [U("6"), A("42")]),
}
PAIR = {"messages": [U("Hello")], "chosen": "Hi!", "rejected": "What?"}
PAIRS = {
    "texts": {"prompt": "Hello", "chosen": "Hi!", "rejected": "What?"},
    "lists with the prompt in them": {
        "chosen": TALK,
        "rejected": [U("Hello"), A("What?")],
        "prompt": "Hello",
    },
    "lists without a prompt": {
        "chosen": TALK,
        "rejected": [U("Hello"), A("What?")],
        "messages": TALK,
    },
    "three lists": {"prompt": [U("Hello")], "chosen": [A("Hi!")], "rejected": [A("What?")]},
    "whole talks": {
        "chosen": "\n\nHuman: Hello\n\nAssistant: Hi!",
        "rejected": "\n\nHuman: Hello\n\nAssistant: What?",
    },
}
BAD = {  # a row that cannot be used, and what is said of it
    "no answer (no assistant message)": [U("Hello")],
    "not a list of messages": "Hello",
    "empty answer": [U("Hello"), A(" ")],
    "empty question": [U(""), A("Hi!")],
    "unknown role 'narrator'": [U("Hello"), {"role": "narrator", "content": "9"}, A("Hi!")],
    "without a role": [{"content": "Hello"}, A("Hi!")],
    "without content": [{"role": "user", "note": "Hello"}, A("Hi!")],
    "begins with an answer, and no question": [S("Be kind."), A("Hi!")],
    "no answer to learn": [U("Hello"), A("Hi!") | {"weight": 0}],
    "not text (bool)": [U("Hello"), A(True)],
    "nothing but a picture": [U("Hello"), A([{"type": "image"}])],
}


def write(file, rows):
    """Write rows as a person would have them in a file of that kind."""
    if file.suffix == ".jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif file.suffix == ".json":
        file.write_text(json.dumps(rows))
    else:
        import pandas

        frame = pandas.DataFrame(rows)
        frame.to_csv(file, index=False) if file.suffix == ".csv" else frame.to_parquet(file)
    return file


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", ["jsonl", "json", "csv", "parquet", "rows"])
def test_every_form_becomes_the_same_messages(tmp_path, form, kind):
    """Nothing of a chat is changed, lost or put into another's mouth, whatever form and file it
    came in.
    """
    row, wanted = FORMS[form]
    found = read_chats([row] if kind == "rows" else write(tmp_path / f"a.{kind}", [row]), "a")
    assert found.rows == [{"messages": wanted}] and (found.total, found.left_out, found.pairs) == (
        1,
        {},
        False,
    )


@pytest.mark.parametrize("form", PAIRS)
@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_every_form_of_pairs_becomes_prompt_better_and_worse(tmp_path, form, kind):
    """The beginning that two answers share is the prompt, once, and the better one stays the better
    one.
    """
    found = read_chats(write(tmp_path / f"a.{kind}", [PAIRS[form]]), "a")
    assert found.rows == [PAIR] and found.pairs


@pytest.mark.parametrize("reason", BAD)
def test_a_row_that_cannot_be_used_is_named(tmp_path, reason):
    """One bad row costs only itself, and its line on the disk is said, blank lines counted."""
    file = tmp_path / "qa.jsonl"
    file.write_text(
        f"\n{json.dumps({'messages': TALK})}\n\n{json.dumps({'messages': BAD[reason]})}\n"
    )
    found = read_chats(file, "qa")
    assert (
        found.rows == [{"messages": TALK}]
        and found.places == ["qa.jsonl, line 2"]
        and found.total == 2
    )
    ((said, where),) = found.left_out.items()
    assert reason in said and where == ["qa.jsonl, line 4"]


@pytest.mark.parametrize(
    "reason, row",
    [
        ("the same", {"prompt": "Hello", "chosen": "Hi!", "rejected": "Hi!"}),
        (
            "one answer each",
            {
                "prompt": None,
                "chosen": [*TALK, U("So?"), A("Yes")],
                "rejected": [U("Hello"), A("What?")],
            },
        ),
        ("begins with an answer", {"prompt": None, "chosen": "Hi!", "rejected": "What?"}),
        ("empty answer", {"prompt": "Hello", "chosen": "Hi!", "rejected": ""}),
        ("half a character", {"prompt": "Hello", "chosen": "Hi!", "rejected": "\ud83d"}),
    ],
)
def test_a_pair_that_cannot_be_used_is_named(reason, row):
    """A pair teaches only if two different answers follow the same question."""
    found = read_chats([PAIRS["texts"], row], "pairs")
    ((said, where),) = found.left_out.items()
    assert reason in said and where == ["row 2"] and found.rows == [PAIR]


def test_a_question_that_is_not_there_is_no_question():
    """Nothing in the column of the question: the row is left out, and never asks "None"."""
    found = read_chats(
        [{"question": None, "answer": "Hi!"}, {"question": "A?", "answer": "B"}], "x"
    )
    assert found.left_out == {"empty question": ["row 1"]}


def test_what_is_kept_but_odd_is_noted():
    """A question without an answer at the end is cut off; copies, two answers in a row and unused
    columns are counted and said.
    """
    rows = [
        {"messages": TALK, "score": 1},
        {"messages": TALK},
        {"messages": [*TALK, U("And?")]},
        {"messages": [*TALK, A("Tea?")]},
    ]
    found = read_chats(rows, "hub/set")
    assert (
        [len(row["messages"]) for row in found.rows] == [2, 2, 2, 2]
        and len(found.copies) == 2
        and not found.left_out
    )
    notes = " ".join(found.notes)
    assert (
        "last question without an answer, cut off (row 3)" in notes
        and "two messages of one person in a row, joined" in notes
        and "(row 4)" in notes
    )
    assert "not used, the column score" in notes


def test_a_csv_keeps_its_numbers_and_says_what_its_first_line_was_taken_for(tmp_path):
    """An answer such as 42 is an answer, and the first line of a CSV without names is not lost in
    silence.
    """
    (tmp_path / "sums.csv").write_text('question,answer\n"6 * 7",42\n"a ""b""\nc?",yes\n6 * 8,\n')
    found = read_chats(tmp_path / "sums.csv", "sums")
    assert found.rows == [
        {"messages": [U("6 * 7"), A("42")]},
        {"messages": [U('a "b"\nc?'), A("yes")]},
    ]
    assert found.left_out == {"empty answer": ["sums.csv, line 5"]}
    (tmp_path / "bare.csv").write_text("Who are you?,A parrot.\nHello,Hi!\n")
    found = read_chats(tmp_path / "bare.csv", "bare")
    assert (
        found.rows == [{"messages": TALK}]
        and "'Who are you?' is taken as the question" in found.notes[0]
    )
    assert "first line was taken as column names" in found.notes[1]


def test_the_forms_that_a_refusal_shows_are_accepted():
    """Every example that a newcomer is told to copy works as it is."""
    lines = [
        line for line in text_files.problem("forms").splitlines() if line.strip().startswith("{")
    ]
    forms = []
    for line in lines:
        found = read_chats([json.loads(line)], line)
        assert len(found.rows) == 1
        forms.append(found.form)
    assert len(forms) == 6 and "prompt and completion, in the columns question and answer" in forms


STOPS = {
    "notes.txt": (
        "Once there was",
        ["plain text", '"question": "Hello"', "handrail new my-model --data"],
    ),
    "plain.jsonl": (
        '{"id": "n1", "body": "Once"}',
        [
            "plain.jsonl: its columns (id and body) match no form",
            '"from"',
            '"chosen"',
            '"instruction"',
        ],
    ),
    "three.csv": ("a,b,c\nx,y,z", ["its columns (a, b and c) match no form"]),
    "lines.jsonl": (
        '{"messages": "user: Hello"}',
        ["none of the 1 rows", "not a list of messages: lines.jsonl, line 1"],
    ),
    "none.jsonl": (
        '{"q": "Hello", "a": ""}\n' * 9,
        ["none of the 9 rows", "empty answer: none.jsonl, line 1;", "and 4 more"],
    ),
    "zero.json": ("[]", ["it has no rows"]),
    "broken.jsonl": (
        '{"q": "a", "a": "b"}\n{"q": \n',
        ["broken.jsonl, line 2", "not valid JSON", "sed -i.bak '2d'"],
    ),
    "uneven.csv": ("q,a\nb,2,3\n", ["uneven.csv, line 2", "3 columns"]),
    "cut.parquet": ("PAR1", ["cut.parquet", "not a complete parquet file"]),
    "a.pdf": ("x", ["plain text"]),
}


@pytest.mark.parametrize("name", STOPS)
def test_a_file_that_is_of_no_use_says_what_to_do(tmp_path, name):
    """Whatever a newcomer hands over: what, where and how to fix it, never a traceback."""
    content, said = STOPS[name]
    (tmp_path / name).write_text(content)
    with pytest.raises(Stop) as stop:
        read_chats(tmp_path / name, name)
    assert not [part for part in said if part not in str(stop.value)], stop.value


def test_a_broken_line_in_a_packed_file(tmp_path):
    """The file is named as its owner knows it, and no command is advised for a copy of it."""
    with gzip.open(tmp_path / "qa.jsonl.gz", "wt") as file:
        file.write('{"q": "a", "a": "b"}\n{"q": \n')
    with pytest.raises(Stop, match="\nqa.jsonl.gz/qa.jsonl, line 2") as stop:
        read_chats(tmp_path / "qa.jsonl.gz", "qa")
    assert "sed" not in str(stop.value)


def test_a_folder_is_read_file_by_file(tmp_path):
    """Files of different forms may be in one folder; what is skipped is named; pairs and
    conversations are not mixed.
    """
    write(tmp_path / "a.jsonl", [{"q": "Hello", "a": "Hi!"}])
    write(tmp_path / "b.json", [{"messages": TALK}, {"messages": []}])
    (tmp_path / "README.md").write_text("About these")
    found = read_chats(tmp_path, "folder")
    assert (
        found.rows == [{"messages": TALK}] * 2
        and found.copies == ["b.json, row 1 (as a.jsonl, line 1)"]
        and list(found.left_out.values()) == [["b.json, row 2"]]
    )
    assert (
        "1 .md" in found.notes[0] and "q and a; conversations, in the column messages" in found.form
    )
    write(tmp_path / "c.jsonl", [PAIRS["texts"]])
    with pytest.raises(Stop, match="these do not: a.jsonl; b.json"):
        read_chats(tmp_path, "folder")


def test_marks_that_cannot_be_obeyed_stop(tmp_path):
    """Half a weight is neither read nor learned, and a bad answer of KTO's is not learned as a good
    one: the first stops, the second is left out.
    """
    with pytest.raises(Stop, match="line 1: .*weight of 0.5"):
        file = write(tmp_path / "w.jsonl", [{"messages": [U("Hello"), A("Hi!") | {"weight": 0.5}]}])
        read_chats(file, "w")
    rows = [{"prompt": "Hello", "completion": "Hi!", "label": i == 0} for i in range(3)]
    found = read_chats(rows, "kto")
    assert len(found.rows) == 1 and "take out" in list(found.left_out)[0]


def test_messages_in_rows_of_their_own(tmp_path):
    """A row for each message: by its conversation, by the message that it answers, or as a tree of
    replies; two answers to one question are two conversations, never one.
    """
    rows = [
        {"conversation_id": n, "role": role, "content": f"{role} {n}"}
        for n in (1, 2)
        for role in ("user", "assistant")
    ]
    tree = [{"message_id": "q", "parent_id": None, "role": "prompter", "text": "Why?"}]
    tree += [
        {"message_id": f"a{n}", "parent_id": "q", "role": "assistant", "text": f"So {n}."}
        for n in (1, 2)
    ]
    nested = [{"prompt": {**tree[0], "replies": tree[1:]}}]
    for made, wanted in (
        (rows, ["assistant 1", "assistant 2"]),
        (tree, ["So 1.", "So 2."]),
        (nested, ["So 1.", "So 2."]),
    ):
        chats = read_chats(write(tmp_path / "rows.jsonl", made), "rows.jsonl")
        assert [row["messages"][-1]["content"] for row in chats.rows] == wanted, chats.notes
        assert all(len(row["messages"]) == 2 for row in chats.rows)


def test_choices_counted_from_one_or_by_their_text():
    """An answer that is a number: counted from 1 if the last number is there and 0 is not."""
    four = ["red", "blue", "green", "pink"]
    rows = [{"question": f"Which? {n}", "choices": four, "answer": n} for n in (1, 2, 3, 4)]
    said = [row["messages"][-1]["content"] for row in read_chats(rows, "x").rows]
    assert said == ["A. red", "B. blue", "C. green", "D. pink"]
    rows = [{"question": "Which?", "choices": ["3", "2", "1"], "answer": "2"}]
    assert read_chats(rows, "x").rows[0]["messages"][-1]["content"] == "B. 2"


def test_other_names_for_marks_of_a_message():
    """`loss` and `loss_weight` are obeyed; a mark whose meaning is not known stops."""
    for mark in ({"loss": False}, {"loss_weight": 0}):
        said = [{"role": "user", "content": "A?"}, {"role": "assistant", "content": "no"} | mark]
        said += [{"role": "user", "content": "B?"}, {"role": "assistant", "content": "yes"}]
        assert read_chats([{"messages": said}], "x").rows[0]["messages"][1]["train"] is False
    said[1] = {"role": "assistant", "content": "no", "mask": True}
    with pytest.raises(Stop, match="row 1: There is a mark 'mask'"):
        read_chats([{"messages": said}], "x")


def test_who_answers_is_asked_for(tmp_path):
    """In an export with names for roles nobody is guessed: the names are listed, --me decides."""
    turns = [{"from": who, "text": f"Text {i}"} for i, who in enumerate(["Ada", "Bo"] * 4)]
    (tmp_path / "chat.json").write_text(json.dumps({"name": "x", "messages": turns}))
    with pytest.raises(Stop, match="--me NAME, one of: Ada, Bo") as stop:
        read_chats(tmp_path / "chat.json", "chat")
    assert stop.value.wants == "me"
    (row,) = read_chats(tmp_path / "chat.json", "chat", "Bo").rows
    assert row["messages"][:2] == [U("Text 0"), A("Text 1")] and len(row["messages"]) == 8
    with pytest.raises(Stop, match="Nobody in .* is called 'Eve'"):
        read_chats(tmp_path / "chat.json", "chat", "Eve")


def test_an_id_or_link_is_no_answer():
    """What looks like an id or a link is never learned as an answer, whatever its name."""
    rows = [
        {"title": f"A title {i}", "node": f"{i:08}-0000-0000-0000-000000000000"} for i in range(9)
    ]
    with pytest.raises(Stop, match="match no form"):
        read_chats(rows, "x")
    rows = [{"question": f"Number {i}?", "answer": f"https://example.org/{i}"} for i in range(9)]
    with pytest.raises(Stop, match="ids or links"):
        read_chats(rows, "x")
    with pytest.raises(Stop, match="match no form"):
        read_chats([{"body": f"Some text {i}", "n": i} for i in range(9)], "x")


def test_no_question_is_on_both_sides(tmp_path):
    """The split is the same every time, about one in ten, never empty on a side, and copies of a
    question stay together.
    """
    rows = [{"messages": [U(f"How many are {i % 500}?"), A(f"{i}")]} for i in range(1000)]
    train, held = split(rows)
    assert len(train) + len(held) == 1000 and 60 < len(held) < 140 and split(rows) == (train, held)
    assert not {row["messages"][0]["content"] for row in train} & {
        row["messages"][0]["content"] for row in held
    }
    for number in range(2, 12):
        for start in range(0, 1000, 37):
            assert all(split((rows + rows)[start : start + number]))
    assert split(rows[:1]) in ((rows[:1], []), ([], rows[:1]))


def test_what_is_written_is_what_was_read(tmp_path):
    """The file holds every row in any script, one a line for every reader, and no half file is left
    behind.
    """
    found = read_chats(
        [{"q": "日本 👍🏽\u2028\x85\n?", "a": "Grüße\x1c"}, {"q": "Hello", "a": "Hi!"}], "a"
    )
    write_rows(found.rows, tmp_path / "chats.jsonl")
    assert read_chats(tmp_path / "chats.jsonl", "b").rows == found.rows and os.listdir(
        tmp_path
    ) == ["chats.jsonl"]
    text = (tmp_path / "chats.jsonl").read_text()
    assert (
        "日本 👍🏽" in text
        and [json.loads(line) for line in text.rstrip("\n").split("\n")] == found.rows
    )
