"""The tiny project that faults are shown on: village stories, a model of a minute, questions and pairs. Made once, then kept."""

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import suppress
from itertools import islice
from pathlib import Path

from handrail import __version__
from handrail.data import village
from handrail.project.project import PROGRAM

SETTINGS = {
    "data": "village.jsonl",
    "vocabulary": 512,
    "size": "1m",
    "prompt": "One ",
    "context": 64,
    "batch": 16,
    "every": 20,
    "updates": 60,
    "lr": 0.01,
}
FINETUNE = {
    "model": "out/model",
    "method": "full",
    "context": 256,
    "batch": 8,
    "lr": 0.003,
    "updates": 30,
}
AFTER = {
    "model": "out/taught",
    "method": "full",
    "context": 512,
    "batch": 8,
    "lr": 0.0003,
    "updates": 20,
}


def chats(number, seed):
    """Yield one-question chats, the answer in a few words or a whole sentence."""
    rng = random.Random(seed)
    for story in islice(village.stories(seed), number):
        asked = {"role": "user", "content": f"{story['text']}\n{story['question']}"}
        answer = story["short" if rng.random() < 0.4 else "whole"]
        yield {
            "messages": [asked, {"role": "assistant", "content": answer}],
            "accept": [story[form] for form in ("answer", "short", "whole")],
        }


def pairs(number, seed):
    """Yield pairs: the short answer chosen, the whole sentence rejected."""
    for story in islice(village.stories(seed), number):
        yield {
            "messages": [{"role": "user", "content": f"{story['text']}\n{story['question']}"}],
            "chosen": story["short"],
            "rejected": story["whole"],
        }


def write(file, rows):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))


def script(folder, *words):
    subprocess.run(
        [sys.executable, *words, "--cpu"], cwd=folder, check=True, stdout=subprocess.DEVNULL
    )


def settings():
    """Return the text of settings.toml."""
    lines = SETTINGS | {
        f"{step}.{name}": value
        for step, chosen in (("finetune", FINETUNE), ("dpo", AFTER), ("grpo", AFTER))
        for name, value in chosen.items()
    }
    return "".join(f"{name} = {json.dumps(value)}\n" for name, value in lines.items())


def make(folder, taught):
    """Make the project; with `taught` also out/taught, a model that answers, for dpo.py and grpo.py to start from."""
    shutil.copytree(PROGRAM, folder, ignore=shutil.ignore_patterns("__pycache__"))
    write(folder / "village.jsonl", islice(village.stories(0), 3000))
    (folder / "settings.toml").write_text(settings())
    script(folder, "tokenizer.py")
    script(folder, "pretrain.py")
    for side, number, seed in (("train", 600, 5), ("val", 60, 6)):
        write(folder / "out" / "chats" / f"{side}.jsonl", chats(number, seed))
        write(folder / "out" / "pairs" / f"{side}.jsonl", pairs(number // 3, seed + 10))
    if taught:
        script(folder, "finetune.py", "--updates", "250", "--batch", "16", "--lr", "0.007")
        (folder / "out" / "finetune" / "model").rename(folder / "out" / "taught")
        shutil.rmtree(folder / "out" / "finetune")
    shutil.rmtree(folder / "out" / "checkpoints")
    (folder / "out" / "metrics.jsonl").unlink()


def practice_project(taught=False, say=print):
    """Return the folder of the practice project; never work in it, copy it."""
    kept = Path(tempfile.gettempdir()) / f"handrail-practice-{os.getuid()}"
    name = f"{__version__}-{stamp()}" + "-taught" * taught
    if not (kept / name).exists():
        say(
            "Making the small project that faults are shown on, once ("
            + ("two minutes" if taught else "half a minute")
            + ") ..."
        )
        kept.mkdir(exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=kept))
        make(part / "p", taught)
        with suppress(OSError):  # another process was quicker
            (part / "p").rename(kept / name)
        shutil.rmtree(part)
    return kept / name


def stamp():
    """Return a few letters that change with the program."""
    import hashlib

    return hashlib.sha256(
        b"".join(file.read_bytes() for file in sorted(PROGRAM.glob("*.py")))
    ).hexdigest()[:8]
