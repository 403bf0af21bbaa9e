"""Which run is this? A checkpoint is for one run only.

Each checkpoint says whose it is: the settings and the data of its run. Another
run must not continue from it. A run of 2,000 updates that starts from a finished
one of 1,000, for example, would train at a learning rate that was planned for
something else, and nothing would look wrong. And only one program at a time may
train in a folder: two would overwrite each other's checkpoints.

The trap: counting too much. A run may move to another machine and be finished
there, or after a mistake in log.py was fixed. So the device, the number format,
the memory that it takes and the code are not part of it.
"""

import fcntl
import hashlib
import json
import os
import shlex

import numpy as np
from accelerate.utils import gather_object

from settings import ROOT, refuse


def checksum(file):
    """Return a checksum of a file's first and last megabyte: quick for any size."""
    data = np.memmap(file, np.uint8, "r")
    return hashlib.sha256(data[: 2**20].tobytes() + data[-(2**20) :].tobytes()).hexdigest()[:12]


def identity(settings, data):
    """Return what makes a run this one and no other: its settings, and the file `data`."""
    base = settings.model if settings.step else settings.base
    weights = sorted((ROOT / base).glob("*.safetensors")) if base else []
    run = {"base": " ".join(map(checksum, weights)) or base, "size": "" if base else settings.size}
    for name in ("method", "updates", "batch", "context", "lr", "seed"):
        run[name] = getattr(settings, name)
    return run | {"data": f"{data.name}, {data.stat().st_size:,} bytes, {checksum(data)}"}


def claim(accelerator, folder):
    """Keep others out of this folder from now on; end with exit code 2 if one trains in it."""
    folder.mkdir(parents=True, exist_ok=True)
    holder = ""
    if accelerator.is_main_process:
        lock = os.open(folder / "run.lock", os.O_RDWR | os.O_CREAT)  # stays open, so locked
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.truncate(lock, 0)
            os.write(lock, str(os.getpid()).encode())
        except BlockingIOError:
            holder = os.read(lock, 20).decode() or "unknown"
        except OSError:
            accelerator.print(f"{folder} cannot be locked: start no second run in it.")
    if holder := max(gather_object([holder])):
        refuse(
            f"A run is under way in {folder} (process {holder}). Nothing was changed.\n"
            "Let it finish, or stop it; or train somewhere else, such as --out out/trial."
        )


def check_run(path, run):
    """End with exit code 2 if a checkpoint is another run's; say what differs, and two ways out."""
    file, out = path / "run.json", os.path.relpath(path.parents[1])
    old = json.loads(file.read_text()) if file.exists() else {}
    differs = [name for name in run if old.get(name) != run[name]]
    if differs:
        lines = [f"{out}/checkpoints belongs to another run:"]
        lines += [f"  {name}: {old.get(name)} there, {run[name]} now" for name in differs]
        if "updates" in differs:
            lines.append("(Its learning rate was planned for its own number of updates.)")
        lines.append("Either keep it, and name a new folder for this one, such as --out out/trial")
        lines.append(f"or move it away, and start again: {move_away(path.parents[1])}")
        refuse("\n".join(lines))


def move_away(out):
    """Return the command that moves everything that a run has made into a new folder."""
    made = [out / name for name in ("checkpoints", "metrics.jsonl", "model")]
    old = out / f"old-{1 + len(list(out.glob('old-*')))}"
    moved = [os.path.relpath(path) for path in made if path.exists()]
    old = os.path.relpath(old)
    return f"mkdir {shlex.quote(old)} && mv {shlex.join([*moved, old])}"
