"""Save everything, and resume exactly where the run was.

Machines stop: rented ones are taken back, laptops sleep, people press Ctrl-C.
A checkpoint saves everything that the next update needs: the weights, the
optimizer's averages, the random state, the number of the update. The data need
not be saved: the number of an update alone decides which batch it gets.

Each checkpoint also says whose it is: the settings and data of its run. Another
run must not continue from it, or it would train at a learning rate planned for
something else, and nothing would look wrong.

The trap: if the machine dies *while saving*, you are left with half a file in
place of your only good one. So the new checkpoint is written next to the old
ones under another name, and gets its own name only when it is whole.
"""

import hashlib
import json
import os
import shutil
import sys

import numpy as np
from accelerate.utils import gather_object
from safetensors import SafetensorError

from settings import ROOT, refuse


def checksum(file):
    """Return a checksum of a file's first and last megabyte: quick for any size."""
    data = np.memmap(file, np.uint8, "r")
    return hashlib.sha256(data[: 2**20].tobytes() + data[-(2**20) :].tobytes()).hexdigest()[:12]


def identity(settings, data):
    """Return what makes a run this one and no other: its settings, and `data`, the file it reads.

    A run may move to another machine, so the device, its number format and memory do not count.
    """
    base = settings.model if settings.step else settings.base
    weights = sorted((ROOT / base).glob("*.safetensors")) if base else []
    run = {"base": " ".join(map(checksum, weights)) or base, "size": "" if base else settings.size}
    for name in ("method", "updates", "batch", "context", "lr", "seed"):
        run[name] = getattr(settings, name)
    return run | {"data": f"{data.name}, {data.stat().st_size:,} bytes, {checksum(data)}"}


def checkpoints(folder):
    """Return the whole checkpoints, oldest first, as {updates made: folder}."""
    return {int(path.name): path for path in sorted(folder.glob("[0-9]*")) if path.name.isdigit()}


def save(accelerator, folder, step, run, keep=2):
    """Write folder/STEP, whole or not at all (then OSError), and keep the newest `keep`."""
    part, whole = folder / f"{step:08}.part", folder / f"{step:08}"
    try:
        accelerator.save_state(part, safe_serialization=False)
    except (OSError, RuntimeError) as error:  # PyTorch's word for a full disk is RuntimeError
        shutil.rmtree(part, ignore_errors=True)
        raise OSError(f"the checkpoint of update {step} could not be written: {error}") from error
    accelerator.wait_for_everyone()  # every process has written its part
    if accelerator.is_main_process:
        (part / "run.json").write_text(json.dumps(run, indent=1))
        os.sync()  # it is on the disk now, not only in the machine's memory
        shutil.rmtree(whole, ignore_errors=True)
        part.rename(whole)
        for old in [*list(checkpoints(folder).values())[:-keep], *folder.glob("*.part")]:
            shutil.rmtree(old)
    accelerator.wait_for_everyone()
    if not all(gather_object([whole.exists()])):
        refuse(f"{folder} must be on a disk that all machines share: --out names another folder.")


def resume(accelerator, folder, run):
    """Load the newest checkpoint of `run`; return how many updates it has seen, or 0."""
    found = checkpoints(folder)
    if len(set(gather_object([max(found, default=0)]))) > 1:
        refuse(f"{folder} must be on a disk that all machines share: --out names another folder.")
    for step, path in reversed(found.items()):
        check_run(path, run)
        problem = ""
        try:
            accelerator.load_state(path)
        except Exception as error:  # damaged: try the one before
            problem = f"{path} is damaged: {error!r:.300}"
        problem = max(gather_object([problem]))  # "" if every process could load it
        if not problem:
            accelerator.print(f"Resuming after update {step:,}.")
            return step
        accelerator.print(problem)
    if found:
        refuse(f"No checkpoint in {folder} can be used. To start again, move that folder away.")
    return 0


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
        lines.append("Either keep it, and make this run in a new folder: add --out out/trial")
        made = " ".join(f"{out}/{name}" for name in ("checkpoints", "metrics.jsonl", "model"))
        lines.append(f"or move it away, and start again: mkdir {out}/old; mv {made} {out}/old")
        refuse("\n".join(lines))


def run(main, kept="What was learned is saved; the same command resumes."):
    """Run main(); turn what can stop it into one line and an exit code."""
    try:
        main()
    except KeyboardInterrupt:
        print(f"\nStopped. {kept}")
        sys.exit(130)
    except (OSError, SafetensorError) as error:
        print(f"Stopped: {error}\nFix that first. {kept}", file=sys.stderr)
        sys.exit(2)
