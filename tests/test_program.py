"""The files that a learner owns, run as the owner runs them."""

import ast
import hashlib
import io
import os
import shutil
import signal
import subprocess
import sys
import time
import tokenize

import numpy as np
import pexpect
import psutil
import pytest
import torch
import warm
from conftest import BIN, HOUSE, decide, handrail, interrupted, made, metrics, script

from handrail.project.project import Project

PROGRAM = HOUSE / "handrail" / "program"


def weights(project):
    """Return a hash of the saved weights: equal only when every bit is."""
    file = project / "out" / "model" / "model.safetensors"
    return hashlib.sha256(file.read_bytes()).hexdigest()


def updates_made(project):
    file = project / "out" / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


def forget_the_end(project):
    """Take the newest checkpoint away, as if the run had been killed before it."""
    shutil.rmtree(sorted((project / "out" / "checkpoints").iterdir())[-1])


def change(file, before, after):
    """Edit a file of the project as its owner would."""
    text = file.read_text()
    assert text.count(before) == 1, f"{before!r} is {text.count(before)} times in {file}"
    file.write_text(text.replace(before, after))


# --- exact resume ---


def test_a_killed_run_ends_with_the_same_weights(project, whole):
    """A machine that dies, between updates or in the middle of saving, costs time and nothing else:
    same bits, same curve.
    """
    moments = [
        lambda: list(project.glob("out/checkpoints/*.part")),
        lambda: updates_made(project) >= 10,
    ]
    for ready in moments:
        interrupted(project, ready, signal.SIGKILL)
    done = script(project, "pretrain.py")
    assert done.returncode == 0 and "Resuming after update" in done.stdout, (
        done.stdout + done.stderr
    )
    assert weights(project) == weights(whole)
    assert [(m["step"], m["loss"], m["tokens"]) for m in metrics(project)] == [
        (m["step"], m["loss"], m["tokens"]) for m in metrics(whole)
    ]


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_request_to_stop_saves_first(project, whole, kind):
    """Ctrl-C, the notice of a rented machine and a closed terminal lose not one update: exit 130,
    the same command resumes there, and the run ends with the same bits.
    """
    code, said = interrupted(project, lambda: updates_made(project) >= 2, kind)
    assert code == 130 and "The same command resumes" in said, said
    assert "Stopping after this update" in said
    stopped_at = updates_made(project)
    done = script(project, "pretrain.py")
    assert f"Resuming after update {stopped_at}." in done.stdout and len(metrics(project)) == 12
    assert weights(project) == weights(whole)


def test_nothing_comes_between_a_run_and_its_notice(project):
    """While a run is under way no second one may touch its folder, by hand or with the guide.
    SIGTERM to `handrail` alone, as a container sends it: the run under it saves and ends too.
    """
    with open(project / "log.txt", "w") as log:
        guide = subprocess.Popen(
            [BIN / "handrail", "pretrain", project, "--cpu", "--yes"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while guide.poll() is None and updates_made(project) < 3:
            time.sleep(0.01)
        run = psutil.Process(guide.pid).children()[0]
        run.suspend()
        before = made(project)
        hand = script(project, "pretrain.py")
        second = handrail("new", project, "--cpu", "--yes", "--updates", "99")
        for refused in (hand, second):
            assert refused.returncode == 2, refused.stdout + refused.stderr
            assert f"under way in {project / 'out'} (process {run.pid})" in refused.stderr
        assert made(project) == before
        run.resume()
        guide.terminate()
        assert guide.wait(timeout=60) == 130, (project / "log.txt").read_text()[-2000:]
    there = updates_made(project)
    assert 3 <= there < 12
    assert sorted((project / "out" / "checkpoints").iterdir())[-1].name == f"{there:08}"


def test_ctrl_c_before_the_first_update_is_a_sentence(project):
    """Compiling takes a minute in which nothing moves, so people press Ctrl-C: it ends at once. It
    also ends the compiler, whose error is then no news; without Ctrl-C an error is shown.
    """
    said = project / "log.txt"
    code, _ = interrupted(project, lambda: "each read" in said.read_text(), signal.SIGINT)
    assert code == 130 and "Stopped." in said.read_text(), said.read_text()
    assert "Traceback" not in said.read_text()
    for asked, code in (("[2]", 130), ("[]", 1)):
        text = f"import checkpoint\ncheckpoint.REQUESTS += {asked}\ncheckpoint.run(lambda: 1 / 0)\n"
        (project / "broken.py").write_text(text)
        done = script(project, "broken.py")
        assert done.returncode == code, done.stdout + done.stderr
        assert ("Traceback" in done.stderr) == (code == 1)


def test_a_damaged_checkpoint_is_passed_over(ran, whole):
    """Of a checkpoint that cannot be read the run says so and takes the one before; half a
    checkpoint, of a machine that died while saving, is never taken. The end is the same.
    """
    newest, before = sorted((ran / "out" / "checkpoints").iterdir())[::-1]
    (newest / "optimizer.bin").write_bytes(b"half")
    (newest.parent / "00000013.part").mkdir()
    done = script(ran, "pretrain.py")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{newest} cannot be loaded" in done.stdout
    assert f"Resuming after update {int(before.name)}." in done.stdout
    assert not list(newest.parent.glob("*.part")) and weights(ran) == weights(whole)


def test_a_full_disk_leaves_the_last_checkpoint_whole(ran, whole):
    """When a checkpoint or a model cannot be written the run stops with a sentence; with room again
    it resumes from the last one.
    """

    def with_room_for(file):
        return script(ran, "pretrain.py", room=file.stat().st_size // 2)

    forget_the_end(ran)
    full = with_room_for(max(ran.glob("out/checkpoints/*/*"), key=lambda file: file.stat().st_size))
    assert full.returncode == 2 and "could not be written" in full.stderr, full.stderr
    assert "Traceback" not in full.stderr
    done = script(ran, "pretrain.py")
    assert done.returncode == 0 and "Resuming after update 8." in done.stdout, done.stderr
    assert len(metrics(ran)) == 12 and weights(ran) == weights(whole)
    full = with_room_for(ran / "out" / "model" / "model.safetensors")
    assert full.returncode == 2 and "too large" in full.stderr, full.stderr
    assert "Traceback" not in full.stderr
    assert weights(ran) == weights(whole)  # no half of a model has its name


def test_a_loss_that_is_no_number_stops_the_run(ran):
    """A run that has blown up must not continue for hours, nor save its ruined weights over good
    ones.
    """
    forget_the_end(ran)
    change(ran / "optimizer.py", "return lambda step: lr * min(", "return lambda step: 1e30 + min(")
    before = made(ran / "out" / "checkpoints")
    done = script(ran, "pretrain.py")
    assert done.returncode == 1 and "learning rate" in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert before and made(ran / "out" / "checkpoints") == before


def test_rows_at_once_changes_memory_and_nothing_else(project, whole):
    """A batch that does not fit into memory is added up from parts: same losses as in one piece."""
    decide(project, rows_at_once=3)  # 3 + 1: the parts are not even of one size
    assert script(project, "pretrain.py").returncode == 0
    assert [m["loss"] for m in metrics(project)][:4] == pytest.approx(
        [m["loss"] for m in metrics(whole)][:4], abs=1e-5
    )


# --- at the keyboard ---


@pytest.mark.parametrize("name", ["pretrain.py", "evaluate.py", "chat.py"])
@pytest.mark.skipif(
    torch.accelerator.is_available(),
    reason="this is about machines without a GPU; on this one the gpu checks run",
)
def test_the_cpu_is_never_taken_silently(project, name):
    """Without a GPU and without --cpu every script stops, says what the choices are, and changes
    nothing.
    """
    done = warm.run([name], project)
    assert done.returncode == 2 and "--cpu" in done.stderr and "Traceback" not in done.stderr
    assert not (project / "out" / "model").exists()


def test_chat_streams_and_ends(walked):
    """The learner types a beginning and reads a continuation; Ctrl-D ends it well."""
    done = script(walked[0], "chat.py", input="One cold night, Tom\n")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(done.stdout.split("One cold night, Tom")[-1]) > 20, done.stdout


def test_ctrl_c_ends_a_reply_and_not_the_talk(walked):
    """A reply that has gone astray is stopped, and the talk continues; Ctrl-D ends it, without a
    traceback.
    """
    child = pexpect.spawn(
        sys.executable, ["chat.py", "--cpu"], cwd=walked[0], encoding="utf-8", timeout=60
    )
    child.expect("\n> ")
    child.sendline("One cold")
    child.expect("One cold.*One cold")
    child.sendintr()
    child.expect("\n> ")
    child.sendeof()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0 and "Traceback" not in child.before


def test_progress_stays_on_one_line_of_a_narrow_terminal(project):
    """On a terminal the progress is written over itself: a line wider than the screen would scroll
    a thousand times past what the model writes.
    """
    child = pexpect.spawn(
        sys.executable,
        ["pretrain.py", "--cpu", "--updates", "4"],
        cwd=project,
        encoding="utf-8",
        timeout=60,
        dimensions=(24, 50),
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"},  # xdist's
    )
    child.expect(pexpect.EOF)
    child.close()
    lines = child.before.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    shown = [line for line in lines if line.startswith("update ")]
    assert child.exitstatus == 0 and shown[-1].startswith("update 4 of 4"), child.before
    assert max(map(len, shown)) < 50, child.before


WRONG = {  # what is not right: script, settings, what is taken away, what must be said
    "words for numbers": ("pretrain.py", {"batch": "big"}, None, "--batch: invalid int value"),
    "no number": ("pretrain.py", {"lr": -1}, None, "lr = -1.0: it must be a number above 0"),
    "no such size": ("pretrain.py", {"size": "3m"}, None, "1m 5m 25m"),
    "no tokenizer": ("pretrain.py", {}, "tokenizer", "First: python tokenizer.py"),
    "no model": ("evaluate.py", {}, "model", "First: python pretrain.py"),
    "no model to talk to": ("chat.py", {}, "model", "First: python pretrain.py"),
    "too early": ("dpo.py", {}, None, "First: handrail dpo"),
    "no text": ("tokenizer.py", {"column": "content"}, None, "has no text (column 'content')"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_or_missing_is_a_sentence(project, fault):
    """A script that cannot begin says what is at fault and what comes first, with exit code 2 and
    no traceback.
    """
    name, settings, gone, said = WRONG[fault]
    decide(project, **settings)
    if gone:
        shutil.rmtree(project / "out" / gone, ignore_errors=True)
    for file in PROGRAM.glob("*.py"):
        shutil.copy(file, project)
    done = script(project, name)
    assert done.returncode == 2 and said in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stderr


# --- copies ---


def brute_force(tokens, train):
    """Return the length of the longest passage of tokens that is also in train, by trying all."""
    longest = 0
    for i in range(len(tokens)):
        for j in range(len(train)):
            length = 0
            while (
                i + length < len(tokens)
                and j + length < len(train)
                and tokens[i + length] == train[j + length]
            ):
                length += 1
            longest = max(longest, length)
    return longest


def contains(tokens, passage):
    """Return True if the list `passage` is somewhere in tokens."""
    size = len(passage)
    return any(list(tokens[i : i + size]) == passage for i in range(len(tokens) - size + 1))


@pytest.fixture(scope="session")
def longest_copy():
    """The search of evaluate.py."""
    sys.path.insert(0, str(PROGRAM))
    from evaluate import longest_copy

    return longest_copy


def test_the_longest_copy_is_the_longest(longest_copy):
    """A search that overlooks a recited passage would call a model that recites private texts safe:
    on 600 random pairs it finds what trying all places finds, in both number formats.
    """
    rng = np.random.default_rng(0)
    for trial in range(600):
        kind = (np.uint16, np.uint32)[trial % 2]
        most = int(rng.integers(1, 6))  # few kinds of tokens: many long coincidences
        # 256 and more: a passage that begins in the middle of a token's bytes must not count
        letters = rng.choice([0, 1, 2, 255, 256, 257, 511, 512, 60000], most, replace=False)
        tokens, train = (
            rng.choice(letters, int(rng.integers(0 if side else 1, 40))).astype(kind)
            for side in (1, 0)
        )
        if trial % 5 == 0 and len(train) > 4:  # recited: a piece of train, at the very end too
            tokens = np.concatenate([tokens, train[-int(rng.integers(2, len(train))) :]])
        found = longest_copy(tokens, train)
        assert len(found) == brute_force(tokens, train), (tokens, train)
        assert contains(tokens, found) and contains(train, found), (tokens, train)


def test_what_a_model_writes_cannot_confuse_a_terminal(walked):
    """An untrained model writes any byte, escape sequences too: those become dots. Signs that join
    letters in Persian, Hindi and emoji stay; without them the words are other words.
    """
    pretrain = Project(walked[0], cpu=True).load("pretrain").pretrain
    assert pretrain.wrap("a\x1b[2Jb\x00\nc") == "a·[2Jb·\nc"
    assert pretrain.wrap("می\u200cخواهم 👩\u200d🔬") == "می\u200cخواهم 👩\u200d🔬"


def test_a_copy_from_a_file_is_found(longest_copy, walked):
    """On the walk's own tokens, as evaluate.py reads them from the disk: a passage of train that
    was put between other tokens comes out as it went in.
    """
    train = np.memmap(walked[0] / "out" / "tokens" / "train.bin", np.uint16, "r")
    passage = np.asarray(train[5000:5300])
    tokens = np.concatenate([[1] * 50, passage, [1] * 50]).astype(np.uint16)
    assert longest_copy(tokens, train) == passage.tolist()


# --- what is handed over ---


def test_the_program_is_independent_and_small():
    """What is handed over is what we promise: no import of handrail, a lesson at the top, no file
    above 85 code lines, no function above 40 lines.
    """
    for file in PROGRAM.glob("*.py"):
        tree = ast.parse(file.read_text())
        lesson = ast.get_docstring(tree)
        assert lesson and "The trap:" in lesson, f"{file.name} opens without its lesson"
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert "handrail" not in (node.module or ""), file.name
            if isinstance(node, ast.Import):
                assert not any("handrail" in alias.name for alias in node.names), file.name
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno + 1 <= 40, f"{file.name}: {node.name}"
        assert code_lines(file) <= 85, (file.name, code_lines(file))


def code_lines(file):
    """Return how many lines hold code: no blanks, comments or docstrings."""
    text, docs = file.read_text(), set()
    for node in ast.walk(ast.parse(text)):
        kinds = (ast.Module, ast.FunctionDef, ast.ClassDef)
        if isinstance(node, kinds) and ast.get_docstring(node):
            docs |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    space = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE}
    space |= {tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in space:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docs)


@pytest.mark.gpu
def test_the_same_commands_on_a_gpu(walked, tmp_path):
    """On a GPU the scripts need no flag, use 16-bit numbers, and a killed run resumes."""
    copy = shutil.copytree(walked[0], tmp_path / "gpu", symlinks=True)
    shutil.rmtree(copy / "out" / "checkpoints")
    decide(copy, every=20)
    run = [sys.executable, "pretrain.py"]
    assert subprocess.run([*run, "--updates", "40"], cwd=copy).returncode == 0
    shutil.rmtree(copy / "out" / "checkpoints" / "00000040")
    done = subprocess.run([*run, "--updates", "40"], cwd=copy, capture_output=True, text=True)
    assert "Resuming after update 20." in done.stdout
    assert metrics(copy)[-1]["loss"] < metrics(copy)[0]["loss"]
