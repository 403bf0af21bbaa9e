"""What the tests share: real commands in real projects, on this machine's CPU.

What needs a GPU is named, never hidden.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path

# two tests run side by side (pytest-xdist), on two cores
os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
import torch
import warm
from filelock import FileLock

from handrail import __version__
from handrail.data.village import stories
from handrail.project.project import PROGRAM

HOUSE = Path(__file__).parent.parent
BIN = Path(sys.executable).parent
SMALL = ["--updates", "80", "--batch", "8"]
SLOW = (
    "test_doctor",
    "test_program",
    "test_identity",
    "test_walk",
    "test_rent",
    "test_renting",
    "test_processes",
    "test_answers",
    "test_estimate",
)
left_out = []
# a suite in the background inherits that Ctrl-C is ignored; the commands under test must hear it
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_configure(config):
    config.addinivalue_line("markers", "gpu: needs a CUDA card or an Apple GPU")
    config.addinivalue_line("markers", "long: a minute and more; with LONG=1")


def pytest_collection_modifyitems(config, items):
    here = {"gpu": torch.accelerator.is_available(), "long": bool(os.environ.get("LONG"))}
    left_out.extend(
        item
        for item in items
        if any(item.get_closest_marker(mark) and not there for mark, there in here.items())
    )
    items[:] = [item for item in items if item not in left_out]
    # long ones last would leave one worker alone
    items.sort(key=lambda item: SLOW.index(item.path.stem) if item.path.stem in SLOW else len(SLOW))
    # nor shall one wait for what the other makes
    for name, place in (("alone", 70), ("answering", 50), ("walked", 0)):
        first = next((item for item in items if name in item.fixturenames), None)
        if first:
            items.remove(first)
            items.insert(place, first)


def pytest_sessionfinish(session):
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = [item.nodeid for item in left_out]


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node, error):
    """Under xdist the workers collect the tests, and tell here what they left out."""
    left_out[:] = node.workeroutput["left_out"] if hasattr(node, "workeroutput") else left_out


def pytest_terminal_summary(terminalreporter):
    if left_out:
        terminalreporter.section("NOT RUN")
        terminalreporter.line(
            f"{len(left_out)} checks need a GPU (run `make test` on a machine that has one) "
            "or minutes (`make test LONG=1`):"
        )
        for item in left_out:
            terminalreporter.line(f"  {getattr(item, 'nodeid', item)}")
    for skipped in terminalreporter.stats.get("skipped", []):
        terminalreporter.line(f"NOT RUN: {skipped.nodeid}: {skipped.longrepr[2]}")


def handrail(*arguments, cwd=None, **how):
    """Run the command as a user does, away from any terminal; return what came of it."""
    return warm.run([BIN / "handrail", *arguments], cwd, **how)


@pytest.fixture(autouse=True)
def own_program():
    """A test that loads a project's files leaves the next one those that it had."""
    names = [file.stem for file in (HOUSE / "handrail" / "program").glob("*.py")]
    before = {name: sys.modules.get(name) for name in names}
    yield
    for name, module in before.items():
        sys.modules.pop(name, None)
        if module:
            sys.modules[name] = module


@pytest.fixture(autouse=True)
def no_doctor_stays():
    """A doctor that a test leaves behind would look at the trainings of all that follow it."""
    yield
    assert not torch.nn.modules.module._has_any_global_hook()


def script(project, name, *arguments, **how):
    """Run a script of the project as its owner does, on the CPU."""
    return warm.run([name, *arguments, "--cpu"], project, **how)


def interrupted(project, ready, kind, name="pretrain.py"):
    """Start a script, signal it once ready() says so; return its exit code and what it printed."""
    with open(project / "log.txt", "w") as log:
        process = subprocess.Popen(
            [sys.executable, name, "--cpu"], cwd=project, stdout=log, stderr=subprocess.STDOUT
        )
        while process.poll() is None and not ready():
            time.sleep(0.002)
        process.send_signal(kind)
        return process.wait(timeout=120), (project / "log.txt").read_text()


def metrics(project):
    return [
        json.loads(line) for line in (project / "out" / "metrics.jsonl").read_text().splitlines()
    ]


def decide(project, **settings):
    """Change settings.toml as an owner would."""
    file = project / "settings.toml"
    lines = [line for line in file.read_text().splitlines() if line.split(" =")[0] not in settings]
    file.write_text(
        "\n".join(lines + [f"{name} = {json.dumps(value)}" for name, value in settings.items()])
        + "\n"
    )


def once(tmp_path_factory, name, make):
    """Return (project, what the screen showed) of make(folder); made once for all workers."""
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    folder, screen = shared / name / "first-model", shared / f"{name}.txt"
    with FileLock(shared / f"{name}.lock"):
        if not screen.exists():
            done = make(folder)
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
            screen.write_text(done.stdout)
    return folder, screen.read_text()


@pytest.fixture(scope="session")
def walked(tmp_path_factory):
    """(project, what the screen showed): the first walk on the village, whole but shortened."""
    return once(
        tmp_path_factory, "walk", lambda folder: handrail("new", folder, "--cpu", "--yes", *SMALL)
    )


def without_its_run(walked, folder):
    """Copy the walked project without its run, set to a dozen updates; return the copy."""
    shutil.copytree(walked, folder, symlinks=True)
    for name in ("checkpoints", "model"):
        shutil.rmtree(folder / "out" / name)
    os.remove(folder / "out" / "metrics.jsonl")
    decide(folder, updates=12, every=4, context=64, batch=4, compile=False)
    return folder


@pytest.fixture
def project(walked, tmp_path):
    """A copy of the walked project, before a run of a dozen updates."""
    return without_its_run(walked[0], tmp_path / "project")


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


def made(folder):
    """Return what can change in a folder: every path, its bytes, and when it was changed.

    Not the locks: they say which process came last.
    """
    return {
        str(path.relative_to(folder)): (
            path.stat().st_mtime_ns,
            path.read_bytes() if path.is_file() else None,
        )
        for path in sorted(folder.rglob("*"))
        if path.suffix != ".lock"
    }


TINY = {
    "handrail": __version__,
    "data": "village.jsonl",
    "vocabulary": 512,
    "size": "1m",
    "prompt": "One ",
    "updates": 60,
    "every": 6,
    "batch": 4,
    "context": 64,
}


def prepare(folder):
    """Make `folder` a village project as the walk leaves it before the run."""
    shutil.copytree(PROGRAM, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOUSE / "handrail" / "project_template" / "requirements.txt", folder)
    (folder / "village.jsonl").write_text(
        "".join(json.dumps(story) + "\n" for story in islice(stories(0), 200))
    )
    (folder / "settings.toml").write_text(
        "".join(f"{name} = {json.dumps(value)}\n" for name, value in TINY.items())
    )
    return script(folder, "tokenizer.py")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return once(tmp_path_factory, "tiny", prepare)[0]
