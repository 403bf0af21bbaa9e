"""The files that a learner owns, run as the owner runs them."""

import hashlib
import shutil
import signal
import subprocess
import sys
import time

import pexpect
import pytest
import torch
import warm
from conftest import BIN, HOUSE, decide, interrupted, metrics, once, script, without_its_run

PROGRAM = HOUSE / "handrail" / "program"


def weights(project):
    """Return a hash of the saved weights: equal only when every bit is."""
    return hashlib.sha256(
        (project / "out" / "model" / "model.safetensors").read_bytes()
    ).hexdigest()


def updates_made(project):
    file = project / "out" / "metrics.jsonl"
    return file.read_text().count("\n") if file.exists() else 0


@pytest.fixture(scope="session")
def whole(walked, tmp_path_factory):
    """The walked project after a run of a dozen updates in peace."""
    return once(
        tmp_path_factory,
        "whole",
        lambda folder: script(without_its_run(walked[0], folder), "pretrain.py"),
    )[0]


@pytest.fixture
def ran(whole, tmp_path):
    """A copy of it."""
    return shutil.copytree(whole, tmp_path / "ran", symlinks=True)


def test_a_killed_run_ends_with_the_same_weights(project, whole):
    """A machine that dies, between updates or in the middle of saving, costs time and nothing else: same bits, same curve."""
    moments = [
        lambda: list(project.glob("out/checkpoints/*.part")),
        lambda: updates_made(project) >= 10,
    ]
    for ready in moments:
        interrupted(project, ready, signal.SIGKILL)
    done = script(project, "pretrain.py")
    assert done.returncode == 0 and "going on after update" in done.stdout, (
        done.stdout + done.stderr
    )
    assert weights(project) == weights(whole)
    assert [(m["step"], m["loss"], m["tokens"]) for m in metrics(project)] == [
        (m["step"], m["loss"], m["tokens"]) for m in metrics(whole)
    ]


def test_a_request_to_stop_saves_first(project):
    """Ctrl-C and the notice of a rented machine lose not one update: exit 130, and the same command goes on from there."""
    for kind, update in ((signal.SIGINT, 3), (signal.SIGTERM, 7)):
        code, said = interrupted(project, lambda: updates_made(project) >= update, kind)
        assert code == 130 and "saved" in said, said
    stopped_at = updates_made(project)
    done = script(project, "pretrain.py")
    assert f"going on after update {stopped_at}" in done.stdout and len(metrics(project)) == 12


def test_a_notice_to_the_guide_reaches_the_run(project):
    """SIGTERM to `handrail` alone, as a container sends it: the run under it saves and ends too, and none is left to spoil the next one's checkpoints."""
    with open(project / "log.txt", "w") as log:
        guide = subprocess.Popen(
            [BIN / "handrail", "pretrain", project, "--cpu", "--yes"],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        while guide.poll() is None and updates_made(project) < 3:
            time.sleep(0.01)
        guide.terminate()
        assert guide.wait(timeout=60) == 130, (project / "log.txt").read_text()[-2000:]
    made = updates_made(project)
    assert (
        3 <= made < 12
        and sorted((project / "out" / "checkpoints").iterdir())[-1].name == f"{made:08}"
    )


def test_a_damaged_checkpoint_is_passed_over(ran):
    """Of a checkpoint that cannot be read the run says so and takes the one before; of a half-written one too."""
    newest, before = sorted((ran / "out" / "checkpoints").iterdir())[::-1]
    (newest / "optimizer.bin").write_bytes(b"half")
    (newest.parent / "00000013.part").mkdir()
    done = script(ran, "pretrain.py")
    assert (
        f"checkpoint {newest} cannot be used" in done.stdout
        and "00000013.part was cut off" in done.stdout
    )
    assert f"going on after update {int(before.name)}" in done.stdout and done.returncode == 0


def test_a_checkpoint_of_another_model_is_not_overwritten(ran):
    """Changing the size and starting again must not destroy the old run: exit 2, and the folder is as it was."""
    kept = sorted((ran / "out" / "checkpoints").rglob("*"))
    decide(ran, size="5m")
    done = script(ran, "pretrain.py")
    assert done.returncode == 2 and "move that folder away" in done.stdout
    assert sorted((ran / "out" / "checkpoints").rglob("*")) == kept


def test_a_full_disk_leaves_the_last_checkpoint_whole(ran):
    """When a checkpoint or a model cannot be written the run stops with a sentence; with room again it goes on from the last one."""
    with_room_for = lambda file: script(ran, "pretrain.py", room=file.stat().st_size // 2)
    good, model = weights(ran), ran / "out" / "model" / "model.safetensors"
    decide(ran, updates=16)
    full = with_room_for(max(ran.glob("out/checkpoints/*/*"), key=lambda file: file.stat().st_size))
    assert (
        full.returncode == 2
        and "could not be written" in full.stderr
        and "Traceback" not in full.stderr
    ), full.stderr
    done = script(ran, "pretrain.py")
    assert (
        done.returncode == 0
        and "going on after update 12" in done.stdout
        and len(metrics(ran)) == 16
        and weights(ran) != good
    )
    good = weights(ran)
    full = with_room_for(model)
    assert full.returncode == 2 and "too large" in full.stderr and "Traceback" not in full.stderr, (
        full.stderr
    )
    assert weights(ran) == good  # no half of a model has its name


def test_a_loss_that_is_no_number_stops_the_run(ran):
    """A run that has blown up must not go on for hours, nor save its ruined weights over good ones."""
    good = {file: file.read_bytes() for file in (ran / "out" / "checkpoints").rglob("*.bin")}
    done = script(ran, "pretrain.py", "--updates", "20", "--lr", "1e30")
    assert (
        done.returncode == 1 and "learning rate" in done.stderr and "Traceback" not in done.stderr
    )
    assert good and all(file.read_bytes() == before for file, before in good.items())


def test_rows_at_once_changes_memory_and_nothing_else(project, whole):
    """A batch that does not fit into memory is added up from parts: same losses as in one piece."""
    decide(project, rows_at_once=3)  # 3 + 1: the parts are not even of one size
    assert script(project, "pretrain.py").returncode == 0
    assert [m["loss"] for m in metrics(project)][:4] == pytest.approx(
        [m["loss"] for m in metrics(whole)][:4], abs=1e-5
    )


@pytest.mark.parametrize("name", ["pretrain.py", "evaluate.py", "chat.py"])
@pytest.mark.skipif(
    torch.accelerator.is_available(),
    reason="this is about machines without a GPU; on this one the gpu checks run",
)
def test_the_cpu_is_never_taken_silently(project, name):
    """Without a GPU and without --cpu every script stops, says what the choices are, and changes nothing."""
    done = warm.run([name], project)
    assert done.returncode == 2 and "--cpu" in done.stderr and "Traceback" not in done.stderr
    assert not (project / "out" / "model").exists()


def test_chat_streams_and_ends(walked):
    """The learner types a beginning and reads a continuation; Ctrl-D ends it well."""
    done = script(walked[0], "chat.py", input="One cold night, Tom\n")
    assert done.returncode == 0 and len(done.stdout.split("One cold night, Tom")[-1]) > 20, (
        done.stdout + done.stderr
    )


def test_ctrl_c_ends_a_reply_and_not_the_talk(walked):
    """A reply that has gone astray is stopped, and the talk goes on; Ctrl-D ends it, without a traceback."""
    child = pexpect.spawn(
        sys.executable,
        ["chat.py", "--cpu", "--context", "100000"],
        cwd=walked[0],
        encoding="utf-8",
        timeout=60,
    )
    (
        child.expect("\n> "),
        child.sendline("One cold"),
        child.expect("One cold.*One cold"),
        child.sendintr(),
    )
    child.expect("\n> "), child.sendeof(), child.expect(pexpect.EOF), child.close()
    assert child.exitstatus == 0 and "Traceback" not in child.before


WRONG = {  # what is not right: script, settings, what is taken away, what must be said
    "words for numbers": ("pretrain.py", {"batch": "big"}, None, "batch = 'big'"),
    "no such size": ("pretrain.py", {"size": "3m"}, None, "1m 5m 25m"),
    "no tokenizer": ("pretrain.py", {}, "tokenizer", "First: python tokenizer.py"),
    "no model": ("evaluate.py", {}, "model", "First: python pretrain.py"),
    "too early": ("dpo.py", {}, None, "First: handrail align"),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_or_missing_is_a_sentence(project, fault):
    """A script that cannot begin says what is at fault and what comes first, with exit code 2 and no traceback."""
    name, settings, gone, said = WRONG[fault]
    decide(project, **settings)
    shutil.rmtree(project / "out" / gone, ignore_errors=True) if gone else None
    for file in PROGRAM.glob("*.py"):
        shutil.copy(file, project)
    done = script(project, name)
    assert done.returncode == 2 and said in done.stderr and "Traceback" not in done.stderr, (
        done.stderr
    )


def test_progress_stays_on_one_line_of_a_narrow_terminal(project):
    """On a terminal the progress is written over itself: a line wider than the screen would scroll a thousand times past what the model writes."""
    child = pexpect.spawn(
        sys.executable,
        ["pretrain.py", "--cpu", "--updates", "4"],
        cwd=project,
        encoding="utf-8",
        timeout=60,
        dimensions=(24, 50),
    )
    child.expect(pexpect.EOF), child.close()
    shown = [part for part in child.before.split("\r") if part.startswith("update ")]
    assert child.exitstatus == 0 and len(shown) == 4 and max(map(len, shown)) < 50, child.before


def test_other_tokens_are_not_put_under_a_run(ran):
    """Old weights that go on with the tokens of another tokenizer say nothing and learn nothing: refused, with the way to begin anew. So is data without text."""
    tokens = (ran / "out" / "tokens" / "train.bin").read_bytes()
    done = script(ran, "tokenizer.py")
    assert (
        done.returncode == 2
        and "mv out out-before" in done.stderr
        and (ran / "out" / "tokens" / "train.bin").read_bytes() == tokens
    )
    (ran / "out").rename(ran / "out-before")
    decide(ran, column="content")
    done = script(ran, "tokenizer.py")
    assert (
        done.returncode == 2
        and "No text was found in village.jsonl, column 'content'" in done.stderr
        and "Traceback" not in done.stderr
    ), done.stderr


def test_the_program_is_small_and_stands_alone():
    """What is handed over is what we promise: no import of handrail, no long file, about 600 lines in the first walk, 1,060 in all."""
    import ast

    later, sizes = (
        {"messages.py", "packing.py", "finetune.py", "answers.py", "dpo.py", "grpo.py", "sync.py"},
        {},
    )
    for file in PROGRAM.glob("*.py"):
        tree = ast.parse(file.read_text())
        assert len(file.read_text().splitlines()) <= {"sync.py": 120}.get(file.name, 110), file.name
        assert ast.get_docstring(tree) and "The trap:" in ast.get_docstring(tree), (
            f"{file.name} opens without its lesson"
        )
        roots = {
            (node.module or "") if isinstance(node, ast.ImportFrom) else node.names[0].name
            for node in ast.walk(tree)
            if isinstance(node, (ast.Import, ast.ImportFrom))
        }
        assert not any("handrail" in root for root in roots)
        sizes[file.name] = code_lines(file)
    assert (
        sum(sizes.values()) <= 1060
        and sum(size for name, size in sizes.items() if name not in later) <= 605
    ), sizes


def code_lines(file):
    """Return the lines that hold code: no blanks, comments or docstrings."""
    import ast
    import io
    import tokenize

    text = file.read_text()
    docs = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)) and ast.get_docstring(
            node
        ):
            docs |= set(range(node.body[0].lineno, node.body[0].end_lineno + 1))
    empty = (
        tokenize.COMMENT,
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
    )
    lines = set()
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type not in empty:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - docs)


@pytest.mark.gpu
def test_the_same_commands_on_a_gpu(walked, tmp_path):
    """On a GPU the scripts need no flag, use 16-bit numbers, and a killed run goes on."""
    copy = shutil.copytree(walked[0], tmp_path / "gpu", symlinks=True)
    shutil.rmtree(copy / "out" / "checkpoints")
    decide(copy, every=20)
    run = [sys.executable, "pretrain.py"]
    assert subprocess.run([*run, "--updates", "40"], cwd=copy).returncode == 0
    shutil.rmtree(copy / "out" / "checkpoints" / "00000040")
    done = subprocess.run([*run, "--updates", "40"], cwd=copy, capture_output=True, text=True)
    assert (
        "going on after update 20" in done.stdout
        and metrics(copy)[-1]["loss"] < metrics(copy)[0]["loss"]
    )
