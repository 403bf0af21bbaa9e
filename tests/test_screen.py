"""The words on the screen, read as a newcomer reads them: from the first line to the last."""

import ast
import json
import re
import shutil
from string import Formatter

import pytest
from conftest import HOUSE, handrail, script

from handrail.project import glossary, words
from handrail.project.project import PROBLEMS, PROGRAM
from handrail.project.words import fill
from handrail.steps import LATER, WALK
from handrail.steps.words import Typed, parts

WALK_CODE = HOUSE / "handrail" / "walk.py"  # says the words at the end
WORD = re.compile(r"^- \*\*(.+?)\*\*", re.M)


def new_words(name):
    """Return the words that a step explains."""
    return WORD.findall(parts(name).get("New words", ""))


def first_use(word, lines):
    """Return the line in which a word (or its plural) comes first, titles of steps left out."""
    found = re.compile(rf"\b{re.escape(word)}(s|es)?\b(?!\.py)", re.I)
    return next(line for line in lines if " · " not in line and found.search(line))


def test_no_word_is_used_before_it_is_explained(walked):
    """A newcomer stops at the first word that nobody explained: on the screen of the real walk,
    each of the field's words comes first in the line that explains it. At most 4 a step, 40 in all.
    """
    lines = walked[1].partition("The machine ·")[2].splitlines()
    known = [word for name in WALK for word in new_words(name)]
    assert 20 <= len(known) <= 40
    assert all(len(new_words(name)) <= 4 for name in WALK + LATER)
    for word in known:
        line = first_use(word, lines)
        assert line.strip().removeprefix("- ").startswith(word), (
            f"{word!r} is used first in: {line}"
        )


def test_every_new_word_is_in_the_glossary():
    """`handrail explain WORD` knows every word that a step calls new."""
    for name in WALK + LATER:
        for word in new_words(name):
            assert glossary.explain(word), word


def test_every_value_that_the_words_name_is_given():
    """A paragraph whose value is unknown is left out: with a slip in a name it would never be seen.
    Each name is one that the step's own code gives.
    """
    for name in [*WALK, *LATER, "should_i_train", "end"]:
        code = (HOUSE / "handrail" / "steps" / f"{name}.py") if name != "end" else WALK_CODE
        given = code.read_text() + (PROGRAM / "baselines.py").read_text()
        for head, text in parts(name).items():
            for _, field, *_ in Formatter().parse("" if head.startswith("Code: ") else head + text):
                root = re.split(r"[.[]", field or "command")[0]
                known = root in ("command", "python") or re.search(rf'"{root}"|\b{root}=', given)
                assert known, f"{name}.md, {head}: {root}"


def test_a_line_is_left_out_for_a_value_inside_another():
    """A command for a run that there is not would be shown with the word None in it."""
    text = "- always\n- {python:pretrain.py --updates {twice}}"
    known = {"python": Typed(str)}
    assert fill(text, known | {"twice": None}) == ["always"]
    assert fill(text, known | {"twice": 40})[1] == "`pretrain.py --updates 40`"


def test_what_stops_a_command_has_its_words_and_values():
    """A slip in a message would show only when something is wrong, as a traceback. Each heading of
    problems.md is used, and is given every value that it names.
    """
    said, used = words.parts(PROBLEMS), set()
    for file in (HOUSE / "handrail").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Constant) and node.value in said:
                used.add(node.value)
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "stop":
                head, given = node.args[0], {keyword.arg for keyword in node.keywords}
                if isinstance(head, ast.Constant):
                    assert words.names_in(said[head.value]) == given, (file.name, head.value)
    assert said.keys() <= used, said.keys() - used


def test_the_lines_that_matter_are_in_the_program():
    """A step shows lines of the file that it hands over: each is really there."""
    for name in WALK + LATER:
        for head, text in parts(name).items():
            if head.startswith("Code: "):
                code = (PROGRAM / head.removeprefix("Code: ")).read_text()
                for fragment in re.findall(r"^`(.+)`$", text, re.M):
                    assert fragment in code, f"{name}.md: {fragment}"


def test_every_command_shown_works_on_this_machine(walked):
    """Where the CPU was chosen, a command without --cpu would refuse."""
    shown = re.findall(r"`((?:python|handrail) [^`]+)`", walked[1])
    assert len(shown) >= 10
    free = ("handrail explain", "handrail estimate", "handrail rent", "python -m")
    wrong = [text for text in shown if "--cpu" not in text and not text.startswith(free)]
    assert not wrong


def test_no_line_is_wider_than_the_screen(walked):
    """Without a terminal the screen is 100 wide; only a command to be copied may be longer."""
    lines = walked[1].partition("The machine ·")[2].splitlines()
    wide = [line for line in lines if len(line) > 100 and "`" not in line and "/" not in line]
    assert not wide


def measured(project, step, name):
    """Take a step; return what it measured under a name, as the notes have it."""
    handrail(step, project, "--cpu", "--yes")
    checks = json.loads((project / "out" / "steps" / f"{step}.json").read_text())["checks"]
    return next(check["measured"] for check in checks if check["name"] == name)


@pytest.mark.long
def test_what_the_experiments_predict_comes_true(walked, tmp_path):
    """`Try it` promises a result to somebody who does it for the first time: on the built-in
    stories each of these comes true.
    """
    project = shutil.copytree(walked[0], tmp_path / "tried", symlinks=True)

    def edited(file, before, after, step, name):
        text = (project / file).read_text()
        assert before in text
        (project / file).write_text(text.replace(before, after, 1))
        found = measured(project, step, name)
        (project / file).write_text(text)
        return found

    share = edited("data.py", "% 20 ==", "% 10 ==", "data", "val documents")
    assert abs(float(share.split()[-1].rstrip("%")) - 10) < 0.5
    loss = edited("model.py", "(4, 128)", "(4, 256)", "model", "loss before training")
    assert abs(float(loss) - 6.74) < 0.15
    known = "updates until the loss was below 0.1"
    usual = float(measured(project, "overfit", known))
    line = "    optimizer.zero_grad()"
    slow = edited("train.py", line, f"    # {line.strip()}", "overfit", known)
    assert slow == "None" or float(slow) > 2 * usual

    def trial(*options):
        shutil.rmtree(project / "out" / "trial", ignore_errors=True)
        done = script(project, "pretrain.py", "--out", "out/trial", *options)
        assert done.returncode == 0, done.stderr[-2000:]
        text = (project / "out" / "trial" / "metrics.jsonl").read_text()
        return json.loads(text.splitlines()[-1])["val_loss"]

    assert trial("--updates", "50", "--lr", "0.1") > trial("--updates", "50") + 0.05
