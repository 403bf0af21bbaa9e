"""The small project that faults are shown on: built-in stories, a model of a minute, questions.

It is made once, then kept.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path

from handrail.data import village
from handrail.project.project import PROGRAM

SETTINGS = Path(__file__).with_suffix(".toml")
TEACH = "finetune.py --updates 250 --batch 16 --lr 0.007"


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def script(folder, words):
    """Run a script of the project."""
    command = [sys.executable, *words.split(), "--cpu"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def make(folder, taught):
    """Make the project; `taught`: also out/taught, from which dpo.py and grpo.py start."""
    out = folder / "out"
    shutil.copytree(PROGRAM, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SETTINGS, folder / "settings.toml")
    write(folder / "village.jsonl", islice(village.stories(0), 3000))
    script(folder, "tokenizer.py")
    script(folder, "pretrain.py")
    for side, number, seed in (("train", 600, 5), ("val", 60, 6)):
        write(out / "chats" / f"{side}.jsonl", village.chats(number, seed, questions=1))
        write(out / "pairs" / f"{side}.jsonl", village.pairs(number // 3, seed + 10))
    if taught:
        script(folder, TEACH)
        (out / "finetune" / "model").rename(out / "taught")
        shutil.rmtree(out / "finetune")
    shutil.rmtree(out / "checkpoints")
    (out / "metrics.jsonl").unlink()


def practice_project(taught=False, say=print):
    """Return the folder of the practice project; never work in it, copy it."""
    program = b"".join(file.read_bytes() for file in sorted(PROGRAM.glob("*.py")))
    name = hashlib.sha256(program).hexdigest()[:8] + ("-taught" if taught else "")
    kept = Path(tempfile.gettempdir()) / f"handrail-practice-{os.getuid()}"
    if not (kept / name).exists():
        long = "two minutes" if taught else "half a minute"
        say(f"Making the small project that faults are shown on, once ({long}) ...")
        kept.mkdir(exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=kept))
        make(part / "p", taught)
        with suppress(OSError):  # another process was quicker
            (part / "p").rename(kept / name)
        shutil.rmtree(part)
    return kept / name
