"""The walk, through the commands that a user types: on the screen, in the project, and when
something is wrong.
"""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pexpect
import pytest
import torch
from conftest import BIN, HOUSE, decide, handrail, made, metrics, script

from handrail import __version__
from handrail.cli import STEPS, cli
from handrail.data.village import stories
from handrail.project.project import Project
from handrail.steps import WALK, step
from handrail.steps.runs import lr_fell
from handrail.steps.words import parts
from handrail.walk import changes, last, lost, state


def git(project, *arguments):
    return subprocess.run(
        ["git", *arguments], cwd=project, capture_output=True, text=True, check=True
    ).stdout


def change(project, file, before, after):
    """Edit a file of the project as its owner would."""
    text = (project / file).read_text()
    assert text.count(before) == 1, f"{before!r} is {text.count(before)} times in {file}"
    (project / file).write_text(text.replace(before, after))


@pytest.fixture
def grown(walked, tmp_path):
    """A copy of the walked project with all that its run left."""
    return shutil.copytree(walked[0], tmp_path / "grown", symlinks=True)


# --- the walk itself ---


def test_the_walk_shows_every_step_and_leaves_what_it_promises(walked):
    """One command: every step says why, expects, measures and explains; model, program, history and
    notes are there.
    """
    project, screen = walked
    for name in WALK:
        assert parts(name)["Title"] in screen
    for head in ("Why", "Expect", "Measured", "What this tells you"):
        assert len(re.findall(rf"^{head}", screen, re.M)) == len(WALK), head
    history = git(project, "log", "--reverse", "--format=%s").splitlines()
    assert history == [
        "An empty project",
        *(parts(name)["Title"] for name in WALK if step(name).FILES),
    ]
    assert not git(project, "status", "--porcelain")
    for left in (
        "model/model.safetensors",
        "tokenizer",
        "notebook.html",
        "checks.jsonl",
        "metrics.jsonl",
        "evaluation.json",
    ):
        assert (project / "out" / left).exists(), left
    keys = {"step_name", "check", "expected", "measured", "verdict", "meaning", "advice"}
    assert all(
        set(json.loads(line)) == keys
        for line in (project / "out" / "checks.jsonl").read_text().splitlines()
    )


def test_metrics_hold_their_contract(walked):
    """Every update is written down once, with what the design promises, and val now and then."""
    lines = metrics(walked[0])
    assert [line["step"] for line in lines] == list(range(1, 81))
    assert all(
        {"step", "tokens", "loss", "lr", "grad_norm", "tokens_per_second", "seconds"} <= set(line)
        for line in lines
    )
    assert sum("val_loss" in line for line in lines) == 10


def test_a_second_walk_verifies_what_is_done_and_keeps_what_was_edited(grown):
    """Steps that are done are verified, not repeated. What rests on an edited file is made again,
    with the learner's version, which is never overwritten.
    """
    done = handrail("new", grown, "--cpu", "--yes")
    assert done.returncode == 0 and done.stdout.count("done, verified") == len(WALK)
    change(grown, "evaluate.py", "It writes:", "It says:")
    again = handrail("new", grown, "--cpu", "--yes")
    assert (
        again.returncode == 0
        and again.stdout.count("done, verified") == len(WALK) - 1
        and "evaluate is taken again, because this changed: evaluate.py" in again.stdout
        and "It says:" in again.stdout
    )
    assert "It says:" in (grown / "evaluate.py").read_text()


def test_status_tells_how_far_the_walk_is(grown):
    """`handrail status` shows what is done, and what a changed file has put in doubt."""
    assert handrail("status", grown).stdout.count("done") == len(WALK)
    change(grown, "evaluate.py", "It writes:", "It says:")
    assert re.search(r"evaluate +changed", handrail("status", grown).stdout)


def test_a_change_puts_all_that_rests_on_it_in_doubt(grown):
    """A new split changes tokens, model and exam: nothing after it may stay "done, verified"."""
    change(grown, "data.py", "% 20 == 0", "% 10 == 0")
    states = re.findall(r"(\w+) +(done|changed) ", handrail("status", grown).stdout)
    assert states == [(name, "done" if name == "machine" else "changed") for name in WALK]


def test_changed_data_and_destroyed_results_are_not_done(grown, tmp_path):
    """Data that grew, or a result that was overwritten, must not be called "done, verified"; the
    same bytes are, with another date or in another place, and so is a project that was moved.
    """
    project, data = Project(grown, cpu=True), grown / "village.jsonl"

    def states():
        return [name for name in WALK if state(project, name) != "done"]

    os.utime(data)
    assert states() == []
    with open(data, "r+b") as file:  # one letter in the middle, and back
        file.seek(data.stat().st_size // 2)
        letter = file.read(1)
        for other, changed in ((b"#", WALK[1:]), (letter, [])):
            file.seek(-1, os.SEEK_CUR)
            file.write(other)
            file.flush()
            assert states() == changed
    result = grown / "out" / "evaluation.json"
    whole = result.read_text()
    result.write_text("garbage")
    assert states() == ["evaluate"]
    assert changes(project, "evaluate") == ["out/evaluation.json"]
    result.unlink()
    assert states() == ["evaluate"]
    result.write_text(whole)

    elsewhere = data.rename(tmp_path / "my stories.jsonl")
    decide(grown, data="../my stories.jsonl")
    assert states() == []
    decide(grown, data="village.jsonl")
    assert states() == []  # it is gone, and was not changed
    decide(grown, data="of-another-story.jsonl")
    assert states() == WALK[1:]
    project = Project(grown.rename(tmp_path / "moved"), cpu=True)
    decide(project.folder, data=str(elsewhere))
    assert states() == []
    elsewhere.write_text(elsewhere.read_text() + elsewhere.read_text()[:200])
    assert states() == WALK[1:]


def test_a_run_with_other_settings_starts_again_and_keeps_the_earlier_one(grown):
    """More updates are another run: nobody is asked without a terminal, so nothing happens before
    --yes; then the earlier run is moved to out/run-1, and the screen says so.
    """
    before = made(grown / "out")
    done = handrail("pretrain", grown, "--cpu", "--updates", "20")
    assert done.returncode == 2 and "updates: 80 there, 20 now" in done.stderr, done.stderr
    assert "add --yes" in done.stderr and "Traceback" not in done.stderr
    assert made(grown / "out") == before
    done = handrail("pretrain", grown, "--cpu", "--yes", "--updates", "20")
    kept = grown / "out" / "run-1"
    said = " ".join(done.stdout.split())
    assert done.returncode in (0, 1) and "The earlier run is kept in" in said, (
        done.stdout[-1500:] + done.stderr
    )
    assert [line["step"] for line in metrics(grown)] == list(range(1, 21))
    for name in ("checkpoints/00000080/run.json", "metrics.jsonl", "model/model.safetensors"):
        assert (kept / name).read_bytes() == before[name][1], name


def test_a_run_begun_by_hand_is_resumed_only_if_it_is_the_same(project):
    """Four updates by hand, then twelve by the walk, would be a run of two schedules, and look
    whole: refused. One begun by hand as settings.toml says is resumed, and one that is finished is
    judged, not made again.
    """
    assert script(project, "pretrain.py", "--updates", "4").returncode == 0
    wrong("pretrain", project, "--cpu", cwd=project, says="updates: 4 there, 12 now")
    for name in ("checkpoints", "model"):
        shutil.rmtree(project / "out" / name)
    (project / "out" / "metrics.jsonl").unlink()

    assert script(project, "pretrain.py").returncode == 0
    shutil.rmtree(project / "out" / "checkpoints" / "00000012")
    done = handrail("pretrain", project, "--cpu")
    assert "Resuming after update 8." in done.stdout, done.stdout + done.stderr
    assert "This run is finished" not in done.stdout
    lines = (project / "out" / "metrics.jsonl").read_bytes()
    done = handrail("pretrain", project, "--cpu")
    assert "This run is finished" in done.stdout, done.stdout + done.stderr
    assert (project / "out" / "metrics.jsonl").read_bytes() == lines

    # a log that was damaged costs the log, not the run
    (project / "out" / "metrics.jsonl").write_bytes(lines[:300] + b"\n{'half\n")
    before = made(project / "out" / "checkpoints"), (project / "out" / "model").stat().st_ino
    done = handrail("pretrain", project, "--cpu", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "This run is finished" in done.stdout and "model is not affected" in done.stdout
    assert made(project / "out" / "checkpoints") == before[0]
    assert not list((project / "out").glob("run-*"))

    # nor is a model thrown away whose checkpoints were deleted
    shutil.rmtree(project / "out" / "checkpoints")
    model = made(project / "out" / "model")
    wrong("pretrain", project, "--cpu", cwd=project, says="its checkpoints are gone")
    assert made(project / "out" / "model") == model


def test_at_a_terminal_it_checks_in(tmp_path):
    """A person is asked which story, sees the file before it is added, can look, undo, stop, and
    resumes later where it stopped.
    """
    child = pexpect.spawn(
        str(BIN / "handrail"),
        ["--cpu"],
        cwd=tmp_path,
        encoding="utf-8",
        timeout=180,
        dimensions=(50, 80),
    )
    seen = child.logfile_read = io.StringIO()
    child.expect("Which one"), child.sendline("1")
    child.expect("source .*activate")
    child.expect("settings.py, .* lines"), child.expect("Enter to add"), child.sendline("")
    child.expect("What this tells you"), child.expect("Look at the data")
    child.expect("Your guess"), child.sendline("300")
    child.expect("Enter to add"), child.sendline("c"), child.expect("escape")
    child.expect("Enter to add"), child.sendline("")
    child.expect("You guessed 300. Measured: 100,000 documents")
    child.expect("Enter next"), child.sendline("x"), child.expect("'x' is not one of these keys")
    child.expect("Enter next"), child.sendline("w"), child.expect("MinHash")
    child.expect("Enter next"), child.sendline("c"), child.expect("is_val")
    child.expect("Enter next"), child.sendline("u"), child.expect("taken back")
    child.expect(pexpect.EOF)
    screen = re.sub(r"\x1b\[[0-9;]*m", "", seen.getvalue()).partition("The machine ·")[2]
    wide = [line for line in screen.splitlines() if len(line) > 80 and "/" not in line]
    assert not wide, "a line is wider than a terminal of 80 columns"
    project = tmp_path / "first-model"
    assert not (project / "data.py").exists() and "Revert" in git(
        project, "log", "-1", "--format=%s"
    )
    child = pexpect.spawn(
        str(BIN / "handrail"),
        ["--cpu"],
        cwd=tmp_path,
        encoding="utf-8",
        timeout=180,
        dimensions=(50, 110),
    )
    child.expect("machine: done, verified"), child.expect("Your guess"), child.sendline("")
    child.expect("Enter to add"), child.sendline("")
    child.expect("Enter next")
    wrong("--cpu", cwd=tmp_path, says="in another terminal")
    child.sendline("q"), child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0 and (project / "data.py").exists()
    settings = project / "settings.toml"  # a line that the step wrote, changed since
    settings.write_text(re.sub("^updates = .*", "updates = 5", settings.read_text(), flags=re.M))
    done = handrail("undo", cwd=tmp_path)
    assert done.returncode == 0 and "taken back" in done.stdout, done.stdout + done.stderr
    assert not (project / "data.py").exists() and "updates = 5" in settings.read_text()


def test_undo_loses_no_edit_and_ctrl_c_in_the_talk_ends_the_talk_alone(grown):
    """What its owner committed since stays, without a half-made revert; Ctrl-C at the talk's own
    prompt leads on to the next check-in.
    """
    (grown / "chat.py").write_text((grown / "chat.py").read_text() + "# my note\n")
    git(grown, "commit", "-qam", "my note")
    child = pexpect.spawn(
        str(BIN / "handrail"),
        ["new", str(grown), "--cpu"],
        encoding="utf-8",
        timeout=180,
        dimensions=(50, 80),
    )
    child.expect("Talk to it now"), child.sendline("y"), child.expect("\n> "), child.sendintr()
    child.expect("Measured"), child.expect("Enter next"), child.sendline("u")
    child.expect("changed in later commits"), child.expect("Enter next"), child.sendline("c")
    (
        child.expect("max_new_tokens"),
        child.expect("my note"),
    )  # whole, though the line is longer than the screen is wide
    child.expect("Enter next"), child.sendline("q"), child.expect(pexpect.EOF), child.close()
    assert (
        child.exitstatus == 0
        and "# my note" in (grown / "chat.py").read_text()
        and not git(grown, "status", "--porcelain")
    )


def test_continue_from_a_pretrained_model(walked, tmp_path):
    """Story 2: an existing model continues learning from other texts, and ends better on
    them than it began.
    """
    texts = tmp_path / "notes"
    texts.mkdir()
    for number, story in enumerate(islice(stories(7), 400)):
        (texts / f"{number}.md").write_text(story["text"].replace("One ", "On a "))
    base = shutil.copytree(walked[0] / "out" / "model", tmp_path / "base")
    done = handrail(
        "new",
        tmp_path / "mine",
        "--data",
        texts,
        "--from",
        base,
        "--cpu",
        "--yes",
        "--updates",
        "20",
        "--batch",
        "4",
        "--until",
        "pretrain",
    )
    assert "was trained before, so its loss is far below" in " ".join(done.stdout.split())
    assert done.returncode in (0, 1), (
        done.stdout[-2000:] + done.stderr
    )  # whether it beats the bigram is another question
    vals = [line["val_loss"] for line in metrics(tmp_path / "mine") if "val_loss" in line]
    assert vals[-1] < vals[0] - 0.2


# --- the owner's changes ---


BROKEN = {  # what a learner might break: step that must catch it, file, before, after
    "val leaks": (
        "data",
        "data.py",
        "zlib.crc32(text.strip().encode()) % 20 == 0",
        "__import__('random').random() < 0.05",
    ),
    "tokenizer adds a space": (
        "tokenizer",
        "tokenizer.py",
        'GPT2Tokenizer(pad_token="<|pad|>")',
        'GPT2Tokenizer(pad_token="<|pad|>", add_prefix_space=True)',
    ),
    "model sees the future": (
        "model",
        "model.py",
        'return AutoModelForCausalLM.from_config(config, attn_implementation="causal")',
        'model = AutoModelForCausalLM.from_config(config, attn_implementation="causal")\n'
        "    for layer in model.model.layers:\n"
        "        layer.self_attn.is_causal = False\n"
        "    return model",
    ),
    "weights never move": ("overfit", "train.py", "    optimizer.step()\n", ""),
    "optimizer is forgotten": (
        "rehearse",
        "checkpoint.py",
        "accelerator.load_state(path)",
        "weights = __import__('torch').load(path / 'pytorch_model.bin')\n"
        "            accelerator._models[0].load_state_dict(weights)",
    ),
}


@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(
            name,
            marks=[pytest.mark.long]
            * (name in ("optimizer is forgotten", "tokenizer adds a space", "weights never move")),
        )
        for name in BROKEN
    ],
)
def test_each_step_catches_what_it_guards_against(grown, fault):
    """A check that cannot fail checks nothing: with the fault in the learner's file, the step says
    no, with exit code 1.
    """
    name, *edit = BROKEN[fault]
    change(grown, *edit)
    done = handrail(name, grown, "--cpu", "--yes")
    assert done.returncode == 1 and "✗" in done.stdout, done.stdout[-2000:] + done.stderr[-2000:]


def test_the_doctor_watches_the_walk_s_own_runs(grown):
    """A mistake that no step asks for is named in the rehearsal, before the long run: what, how it
    is known, the likeliest cause, the lesson.
    """
    change(
        grown,
        "train.py",
        'logits = model(batch["inputs"], use_cache=False).logits.flatten(0, 1)  # (B · T, V)\n',
        'out = model(batch["inputs"], labels=batch["targets"], use_cache=False)\n'
        '    return out.loss * batch["count"]\n'
        "    logits = out.logits.flatten(0, 1)\n",
    )
    done = handrail("rehearse", grown, "--cpu", "--yes")
    said = " ".join(done.stdout.split())
    assert (
        done.returncode == 1
        and "the doctor: labels-shifted-twice: fail The targets are two tokens ahead" in said
    ), done.stdout[-2000:] + done.stderr[-2000:]
    assert (
        "Most likely: the labels were shifted by hand" in said
        and "handrail break labels-shifted-twice" in said
    )


def test_a_schedule_made_for_another_run_is_noticed(walked):
    """A rate that is still high when the run ends: the real run's has come down; the same run with
    a schedule eight times as long has not.
    """
    make_schedule = Project(walked[0], cpu=True).load("optimizer").optimizer.make_schedule

    def logs(planned):
        schedule = make_schedule(1e-3, planned)
        return [{"lr": schedule(step)} for step in range(80)]

    assert lr_fell(metrics(walked[0])).verdict == lr_fell(logs(80)).verdict == "pass"
    assert lr_fell(logs(640)).verdict == "warn"


def test_another_saved_model_is_noticed(grown):
    """The folder that is shared must hold the model that was trained, to the last bit."""
    from safetensors.torch import load_file, save_file

    file = grown / "out" / "model" / "model.safetensors"
    tensors = load_file(file)
    tensors["model.norm.weight"] *= 1.001
    save_file(tensors, file, {"format": "pt"})
    done = handrail("chat", grown, "--cpu", "--yes")
    assert done.returncode == 1 and "✗  difference between saved and trained logits" in done.stdout


def test_an_error_in_the_learners_own_file_shows_that_file(grown):
    """Somebody who changed a file and broke it sees the line of their own file, what the file
    promises, and how to see the change; not the insides of handrail. Exit 2.
    """
    change(
        grown,
        "batches.py",
        "def to_batch(rows):",
        "def to_batch(rows):\n    raise ValueError('my idea')",
    )
    raised = handrail("model", grown, "--cpu", "--yes")
    assert raised.returncode == 2 and "batches.py:" in raised.stdout and "❱" in raised.stdout
    assert "walk.py" not in raised.stdout
    for part in ("ValueError: my idea", "You changed batches.py", "Targets are shifted here, once"):
        assert part in " ".join(raised.stderr.split())
    change(grown, "batches.py", "raise ValueError('my idea')", "return None")
    nothing = handrail("model", grown, "--cpu", "--yes")
    assert nothing.returncode == 2 and "You changed batches.py" in nothing.stderr
    (grown / "model.py").write_text("def build(:\n")
    syntax = handrail("model", grown, "--cpu", "--yes")
    assert syntax.returncode == 2 and "model.py" in syntax.stderr
    assert not any("Traceback" in done.stderr for done in (raised, nothing, syntax))


# --- what is wrong is said once, with exit code 2 ---


def wrong(*arguments, cwd, says):
    done = handrail(*arguments, cwd=cwd)
    assert done.returncode == 2, (done.returncode, done.stdout[-500:], done.stderr[-1500:])
    assert says in done.stderr and "Traceback" not in done.stderr, done.stderr


def test_wrong_input_gets_a_sentence(tmp_path):
    """Unknown sizes, steps, folders that are something else or may not be written: said plainly,
    nothing touched.
    """
    wrong(
        "new",
        "fresh",
        "--cpu",
        "--size",
        "9b",
        "--until",
        "data",
        cwd=tmp_path,
        says="There is no size '9b'",
    )
    wrong("new", "x", "--cpu", "--until", "nonsense", cwd=tmp_path, says="nonsense")
    wrong("tokeniser", "--cpu", cwd=tmp_path, says="Did you mean: handrail tokenizer")
    (tmp_path / "notes.txt").write_text("Some notes.")
    wrong("new", "notes.txt", "--cpu", cwd=tmp_path, says=f"--data {tmp_path / 'notes.txt'}")
    assert (
        handrail("new", "early", "--cpu", "--yes", "--until", "machine", cwd=tmp_path).returncode
        == 0
    )
    wrong("model", "early", "--cpu", cwd=tmp_path, says="First: handrail data")
    assert not (tmp_path / "early" / "model.py").exists()
    wrong("modle", "x", cwd=tmp_path, says="modle")
    (tmp_path / "photos").mkdir(), (tmp_path / "photos" / "cat.jpg").write_text("cat")
    wrong("new", "photos", "--cpu", cwd=tmp_path, says="Nothing was touched")
    assert [file.name for file in (tmp_path / "photos").iterdir()] == ["cat.jpg"]
    wrong("new", "/sys/my-model", "--cpu", cwd=tmp_path, says="permission")
    wrong("model", "nowhere", "--cpu", cwd=tmp_path, says="nowhere")
    (tmp_path / "torn").mkdir(), (tmp_path / "torn" / "settings.toml").write_text("data = \n")
    wrong("new", "torn", "--cpu", cwd=tmp_path, says="settings.toml")
    (tmp_path / "torn" / "settings.toml").write_text("batch = 8\nbatch = 9\n")
    wrong("status", "torn", cwd=tmp_path, says="is there twice (at line 2")
    (tmp_path / "torn" / "settings.toml").write_bytes(b'data = "\xff"\n')
    wrong("status", "torn", cwd=tmp_path, says="settings.toml")
    wrong("new", "", "--cpu", cwd=tmp_path, says="The name of the folder is empty")


@pytest.mark.parametrize(
    "line", ["data = 5", "finetune.base = 5", 'kinds = ".md"', "finetune = 3", "batch = true"]
)
def test_a_setting_of_another_type_is_named_with_its_file(line, tmp_path):
    """settings.toml is written by hand, too. A number where a text belongs is a sentence that names
    the line and what it has to be, before anything is done with it.
    """
    version = f'handrail = "{__version__}"\n'
    (tmp_path / "settings.toml").write_text(version + line)
    name = line.partition(" =")[0].rpartition(".")[2]
    wrong("new", tmp_path, "--cpu", cwd=tmp_path, says=f"settings.toml: {name} = ")
    assert (tmp_path / "settings.toml").read_text() == version + line
    (tmp_path / "settings.toml").write_text(f"{version}bacth = 16")
    wrong("new", tmp_path, "--cpu", cwd=tmp_path, says="no setting bacth. Did you mean batch?")


def test_a_setting_that_is_deleted_is_chosen_again(grown):
    """Told to delete a line to have it chosen again, people do so. The step that chose it is due
    then, and the run does not begin with a default; what a person wrote by hand stays.
    """
    project = Project(grown)
    assert not project.persons("lr", "lr")
    decide(grown, lr=0.004)
    assert project.persons("lr", "lr") and not lost(project, "lr")
    note = grown / "out" / "steps" / "lr.json"
    chose = json.loads(note.read_text())["chose"]
    assert list(chose) == ["lr"]
    decide(grown, lr=float(chose["lr"]))
    assert not project.persons("lr", "lr") and state(project, "pretrain") == "done"
    project.decide("lr", None)
    assert lost(project, "lr") == ["lr"] and state(project, "lr") == "changed"
    wrong("pretrain", grown, "--cpu", "--yes", cwd=grown, says="some of it is gone: lr. To have it")


HALF = """
from pathlib import Path
from tokenizer import encode
from transformers import AutoTokenizer

def stopped():
    yield {"text": "One"}
    raise KeyboardInterrupt

encode(stopped(), AutoTokenizer.from_pretrained("out/tokenizer"), Path("out/tokens"))
"""


def test_tokens_that_are_half_written_train_nothing(grown):
    """Ctrl-C while the tokens are written: the next step, or the script, would train on a part of
    the text, or end in an error that nobody understands.
    """
    tokens = grown / "out" / "tokens"
    assert subprocess.run([sys.executable, "-c", HALF], cwd=grown, capture_output=True).returncode
    assert (tokens / "train.bin").exists() and not (tokens / "about.json").exists()
    says = "tokens/about.json. To have it again: handrail tokenizer"
    wrong("overfit", grown, "--cpu", "--yes", cwd=grown, says=says)
    done = script(grown, "pretrain.py")
    assert done.returncode == 2 and "First: python tokenizer.py" in done.stderr, done.stderr


def test_undo_of_what_leaves_nothing_to_take_back(grown):
    """A step's commit may be without effect by now: undo then has nothing to revert, and goes on to
    the step before.
    """
    name = last(Project(grown))
    note = grown / "out" / "steps" / f"{name}.json"
    git(grown, "revert", "--no-edit", json.loads(note.read_text())["commit"])
    done = handrail("undo", grown)
    assert done.returncode == 0 and f"The step {name} is taken back" in done.stdout, done.stderr
    assert not note.exists()


def test_a_note_of_a_step_that_holds_something_else_is_no_note(tmp_path):
    """Half a note, or a file that something else wrote: the step is to be taken, no traceback."""
    for text in ("[]", "{", '{"checks": '):
        (tmp_path / "out" / "steps").mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / "steps" / "data.json").write_text(text)
        assert state(Project(tmp_path), "data") == "to do"


def test_what_is_wrong_in_a_flag_is_not_written_down(grown):
    """A bad value or path must not poison a project that was whole: it is refused before any line
    is changed.
    """
    before = (grown / "settings.toml").read_bytes()
    for flag, value in {
        "--lr": "nan",
        "--updates": "-5",
        "--context": "0",
        "--size": "9b",
        "--from": "./nothing",
        "--data": "typo.jsonl",
    }.items():
        wrong("new", grown, "--cpu", flag, value, cwd=grown, says=value)
    wrong(
        "finetune",
        grown,
        "--cpu",
        "--answers",
        "typo.jsonl",
        cwd=grown,
        says="--answers THE/RIGHT/PATH",
    )
    assert (grown / "settings.toml").read_bytes() == before
    decide(grown, size="3m")
    wrong("model", grown, "--cpu", cwd=grown, says="There is no size '3m'")
    decide(grown, size="1m", batch="big")
    wrong("model", grown, "--cpu", cwd=grown, says="settings.toml: batch = 'big'")


def test_a_folder_keeps_its_mode(tmp_path):
    """A folder that only its owner may read must not be opened to others when a project is made in
    it.
    """
    (tmp_path / "mine").mkdir(mode=0o700)
    Project(tmp_path / "mine").create()
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700 and (
        tmp_path / "mine" / ".gitignore"
    ).exists()


def test_a_full_disk_is_a_sentence(tmp_path):
    """Data that cannot be written: which file and why, exit code 2, and no half of it is left."""
    done = handrail("new", "p", "--cpu", "--yes", "--until", "data", cwd=tmp_path, room=1_000_000)
    assert (
        done.returncode == 2
        and "village.jsonl: File too large" in done.stderr
        and "Traceback" not in done.stderr
    ), done.stderr
    assert not list((tmp_path / "p").glob("village.*"))


def test_a_project_of_an_older_version_is_left_alone(grown, tmp_path):
    """A project is never upgraded behind its owner's back: no byte changes, and both ways to
    continue are named.
    """
    texts = tmp_path / "My Texts"
    texts.mkdir()
    decide(grown, handrail="0.3.0", data="../My Texts")

    def content():
        return {file: file.read_bytes() for file in grown.rglob("*") if file.is_file()}

    before = content()
    for words in (
        ["new", grown],
        [],
        ["evaluate", grown],
        ["finetune"],
        ["rehearse", grown],
        ["rent", "sky", grown],
        ["status", grown],
    ):
        cpu = [] if words[:1] in (["rent"], ["status"]) else ["--cpu"]
        wrong(*words, *cpu, cwd=grown, says="made by handrail 0.3.0")
    wrong("new", grown, "--cpu", cwd=tmp_path, says=f"cd {grown} && python pretrain.py")
    wrong("new", grown, "--cpu", cwd=tmp_path, says=f"{grown}-2 --data '{texts}'")
    assert content() == before


def test_the_third_number_of_a_version_is_free(tmp_path):
    """A correction of handrail itself must not lock people out of their projects."""
    words = ["new", "p", "--cpu", "--yes", "--until", "machine"]
    assert handrail(*words, cwd=tmp_path).returncode == 0
    decide(tmp_path / "p", handrail=f"{__version__.rpartition('.')[0]}.99")
    done = handrail(*words, cwd=tmp_path)
    assert done.returncode == 0 and "Continuing the project" in done.stdout, done.stderr


def test_a_project_inside_a_repository_keeps_its_own_history(walked, tmp_path):
    """A walk inside somebody's repository commits nothing there."""
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    assert (
        handrail("new", "inner", "--cpu", "--yes", "--until", "machine", cwd=tmp_path).returncode
        == 0
    )
    assert git(tmp_path / "inner", "rev-list", "--count", "HEAD").strip() == "2"
    assert (
        subprocess.run(["git", "log"], cwd=tmp_path, capture_output=True).returncode != 0
    )  # no commit outside


NO_GPU = pytest.mark.skipif(
    torch.accelerator.is_available(), reason="this is about machines without a GPU"
)


@NO_GPU
def test_without_a_gpu_nothing_starts(tmp_path):
    """The guide, and `make walk` before it installs anything, stop with the choices when there is
    no GPU.
    """
    launch = [sys.executable, "-m", "handrail.launch"]
    for command, choice in (
        ([BIN / "handrail"], "handrail --cpu"),
        ([BIN / "handrail", "new", "My Model"], "handrail new 'My Model' --cpu"),
        (launch, "make walk CPU=1\n"),
        ([*launch, "new", "p"], "make walk CPU=1 ARGS='new p'"),
    ):
        done = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        assert done.returncode == 2 and choice in done.stderr and "Rent" in done.stderr
    assert not list(tmp_path.iterdir())


@NO_GPU
def test_any_answer_to_the_gpu_question_ends_with_a_sentence(tmp_path):
    """Who types something else than 1 must learn that nothing was started, not be left with a
    silent prompt.
    """
    child = terminal(tmp_path)
    child.expect("Type 1"), child.sendline("y"), child.expect("Nothing was started")
    child.expect(pexpect.EOF), child.close()
    assert child.exitstatus == 2 and not list(tmp_path.iterdir())


# --- the commands ---


def terminal(cwd, *words):
    """Start handrail at a terminal."""
    return pexpect.spawn(
        str(BIN / "handrail"),
        list(words),
        cwd=cwd,
        encoding="utf-8",
        timeout=180,
        dimensions=(50, 200),
    )


def test_an_unknown_word_is_an_error_and_makes_no_folder(tmp_path):
    """A typing mistake must not become a project: the nearest command is named, and how a project
    is started.
    """
    wrong("tokeniser", cwd=tmp_path, says="Did you mean: handrail tokenizer")
    wrong("My Model", "--size", "1m", cwd=tmp_path, says="handrail new 'My Model' --size 1m")
    wrong("--cpu", "model", cwd=tmp_path, says="Options go after the command")
    wrong("explain", "optimzer", cwd=tmp_path, says="Did you mean: optimizer")
    wrong("explain", "qwxyz", cwd=tmp_path, says="not in the list")
    (tmp_path / "notes.txt").write_text("Some notes.")
    wrong("notes.txt", cwd=tmp_path, says="handrail new my-model --data notes.txt")
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]


def test_what_needs_no_torch_does_not_import_it():
    """Help and look-ups must answer at once: importing PyTorch takes seconds."""
    for words in (
        ["--help"],
        ["new", "--help"],
        ["explain", "loss"],
        ["explain", "should-i-train"],
        ["break"],
    ):
        code = (
            "import sys; from handrail.cli import main; code = main(sys.argv[1:]); "
            "sys.exit(code or str({'torch', 'transformers', 'datasets'} & set(sys.modules)))"
        )
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True)
        assert done.stdout and done.stderr.strip() == "set()", (words, done.stderr)


def test_the_command_that_is_shown_says_the_same(tmp_path):
    """The line after the first question starts the same project, in a path with a space too; after
    Ctrl-C, the command that continues it is named.
    """
    (tmp_path / "My Notes").mkdir()
    (tmp_path / "My Notes" / "a.txt").write_text("Some notes. " * 200)
    child = terminal(tmp_path, "--cpu")
    child.expect("Which one"), child.sendline("2")
    child.expect("texts: "), child.sendline("My Notes")
    child.expect("handrail new first-model --data 'My Notes' --cpu\r\n")
    child.expect("Enter to add"), child.sendintr()
    child.expect("To continue: handrail --cpu\r\n"), child.expect(pexpect.EOF), child.close()
    assert child.exitstatus == 130
    child = terminal(tmp_path, "new", "first-model", "--data", "My Notes", "--cpu")
    child.expect("Continuing the project"), child.expect("Enter to add"), child.close(force=True)
    child = terminal(tmp_path, "new", "Mein Modell ü", "--data", "My Notes", "--cpu")
    child.expect("Enter to add"), child.sendintr()
    child.expect(f"To continue: handrail new '{tmp_path}/Mein Modell ü' --cpu\r\n")
    child.expect(pexpect.EOF), child.close()
    assert child.exitstatus == 130


def test_a_project_is_counted_without_a_gpu(project):
    """The question before every rented run: what does *my* project need? Its own files, data and
    earlier measurements are used, and nothing in it changes.
    """
    before = made(project)
    done = handrail("estimate", cwd=project)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "of your train.py" in done.stdout and "cheapest" in done.stdout
    assert "Earlier in this project" in done.stdout or not (project / "out/estimates.txt").exists()
    assert made(project) == before


# --- taken home ---


def test_the_project_runs_without_handrail(grown):
    """In a fresh environment made from requirements.txt the program gives the same loss, and plain
    Transformers loads the model.
    """
    done = handrail("share", grown, "--cpu", "--yes")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "bits per byte" in (grown / "out" / "model" / "README.md").read_text()
    assert "40 of 40 tokens the same" in done.stdout and "hub not reached" in done.stdout
    assert "ollama create grown -f out/gguf/Modelfile" in done.stdout
    left = {"Modelfile", "model-f32.gguf", "model-q8_0.gguf"}
    assert set(os.listdir(grown / "out" / "gguf")) == left
    assert "What was chosen and measured" in (grown / "README.md").read_text()
    assert state(Project(grown), "share") == "done"
    assert script(grown, "evaluate.py").returncode == 0


def test_papers_and_files_agree(tmp_path):
    """What the project's README and AGENTS.md name exists, also while the project grows, commands
    are those that work here, the owner's lines stay, and requirements are the tested versions.
    """
    template, program = (
        HOUSE / "handrail" / "project_template",
        {file.name for file in (HOUSE / "handrail" / "program").glob("*.py")},
    )
    project = Project(tmp_path / "new", cpu=True)
    project.create()
    assert {file.name for file in template.iterdir()} < set(os.listdir(project.folder))
    readme, agents = project.folder / "README.md", project.folder / "AGENTS.md"
    assert not re.findall(r"\w+\.py", readme.read_text() + agents.read_text())
    readme.write_text(readme.read_text() + "My own line.\n")
    project.add(["settings.py", "train.py", "pretrain.py"])
    trial = "`python pretrain.py --cpu --updates 50 --out out/trial`"
    for paper in (readme, agents):
        named = set(re.findall(r"\w+\.py", paper.read_text()))
        assert named == {"settings.py", "train.py", "pretrain.py"}, (paper, named)
    assert trial in agents.read_text() and readme.read_text().endswith("My own line.\n")
    Project(project.folder).add(program)  # by a command that does not say --cpu, such as rent
    assert trial in agents.read_text()
    assert readme.read_text().endswith("My own line.\n")
    agents.write_text("Mine.\n")
    assert list(project.guides()) == ["README.md"]
    for paper in (readme, template / "AGENTS.md"):
        named = set(re.findall(r"`(\w+\.py)`", paper.read_text()))
        assert named == program, (paper, named ^ program)
    pins = set((HOUSE / "constraints.txt").read_text().split())
    wanted = {
        line
        for line in (template / "requirements.txt").read_text().splitlines()
        if line and not line.startswith("#")
    }
    assert wanted <= pins, wanted - pins
    assert Path(HOUSE / "constraints.txt").read_text().count("torch==2.13.0") == 1


def test_the_docs_name_commands_and_files_that_exist():
    """A command or a link in README.md, docs/ and the project's papers that leads nowhere stops a
    newcomer at once.
    """
    template = HOUSE / "handrail" / "project_template"
    pages = [*HOUSE.glob("*.md"), *HOUSE.glob("docs/*.md"), *template.glob("*.md")]
    pages += HOUSE.glob("skills/*/SKILL.md")
    pages.remove(HOUSE / "LOG.md")  # a diary: what was true that day
    for page in pages:
        text = page.read_text()
        for link in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (page.parent / link).exists(), (page, link)
        code = "\n".join(re.findall(r"```.*?```|`[^`\n]+`", text, re.S))
        for words in re.findall(r"^(?:`|\$ )?handrail +([^`#\n]+)", code, re.M):
            word, *others = words.split()
            assert word in {*cli.commands, "STEP"}, (page, words)
            if word in {"new", "estimate", *STEPS}:
                known = {name for option in cli.commands[word].params for name in option.opts}
                assert {name for name in others if name.startswith("--")} <= known, (page, words)
