"""A project that an older handrail made: its scripts work without the guide, which leaves it alone.

project-0.3.0.tar.gz was made by handrail 0.3.0, as its owner would: --data village --updates 60
--batch 8 --context 64 --cpu, with a size of the owner's own in model.py (it keeps the archive
small), the run stopped after update 34. Left out: village.jsonl, which `python pretrain.py` does
not read, and the older of two checkpoints.
"""

import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from conftest import handrail, metrics

ARCHIVE = Path(__file__).with_name("project-0.3.0.tar.gz")


@pytest.fixture
def older(tmp_path):
    """The project of handrail 0.3.0, its run stopped after update 34 of 60."""
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(tmp_path, filter="data")
    return tmp_path / "project"


def as_it_is(folder):
    """Return what can change in a folder: every path, its bytes, and when it was changed."""
    paths = [folder, *sorted(folder.rglob("*"))]
    return {
        str(path): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in paths
    }


def test_its_run_resumes_without_handrail(older, tmp_path):
    """The project's own files finish a run of 0.3.0 from its checkpoint, with no handrail."""
    blocked = tmp_path / "blocked"
    blocked.mkdir()
    (blocked / "handrail.py").write_text("raise ImportError('a project needs no handrail')\n")
    done = subprocess.run(
        [sys.executable, "pretrain.py", "--cpu"],
        cwd=older,
        env=os.environ | {"PYTHONPATH": str(blocked)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "going on after update 34" in done.stdout
    assert [line["step"] for line in metrics(older)] == list(range(1, 61))
    assert (older / "out" / "checkpoints" / "00000060").is_dir()
    assert (older / "out" / "model" / "model.safetensors").exists()


@pytest.mark.parametrize("command", ["pretrain", "new"])
def test_the_guide_changes_nothing_in_it(older, command):
    """The guide refuses an older project and names both ways out; every byte and time stays."""
    before = as_it_is(older)
    done = handrail(command, older, "--cpu")
    assert done.returncode == 2, done.stdout + done.stderr
    assert "python pretrain.py" in done.stderr and "handrail new" in done.stderr, done.stderr
    assert as_it_is(older) == before
