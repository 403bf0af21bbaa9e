"""Does a run that is killed end with the same weights as one that is not?

    python bench/resume.py                    20 kills, eager; a few minutes
    python bench/resume.py --compiled         the same, compiled

`python pretrain.py --cpu` of a grown project is run once in peace. In a copy it is killed with
SIGKILL, started again, killed again ..., and after the last kill left to end. Half of the kills
come at a random moment (at most --spread seconds) after the run's first sign of life, the other
half while a checkpoint is being written (its folder is called *.part). Compared, byte for byte:
out/model/model.safetensors; and update by update the losses in out/metrics.jsonl, which must be
there once each. Exits 1 if anything differs, or if the run was over before it had been killed often
enough.
"""

import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path

import ground
from tables import head, options, pick, row

QUIET = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def begin(folder, *command, **more):
    """Start a script of the project (pretrain.py --cpu, if none is named)."""
    words = [sys.executable, *(command or ("pretrain.py", "--cpu"))]
    return subprocess.Popen(words, cwd=folder, stdout=subprocess.DEVNULL, env=QUIET, **more)


def wait_for(process, happened):
    """Look every half millisecond until something happened; return False if the process ended."""
    while process.poll() is None and not happened():
        time.sleep(0.0005)
    return process.poll() is None


def newest(folder):
    """Return the number of the newest whole checkpoint, or 0."""
    return max((int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()), default=0)


def kill(folder, rng, in_writing, spread):
    """Start the run and kill it; return what is on the disk then, or None if it was over before."""
    file, saved = folder / "out/metrics.jsonl", folder / "out/checkpoints"

    def look():
        if in_writing:
            return set(saved.glob("*.part"))
        return file.exists() and file.stat().st_size

    before, process = look(), begin(folder)
    moment = rng.uniform(0, 0.03 if in_writing else spread)  # seconds; writing takes 0.02 to 0.05
    if wait_for(process, lambda: look() - before if in_writing else look() != before):
        time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        return None
    logged = len(file.read_text().splitlines()) if file.exists() else 0
    return logged, newest(saved), any(saved.glob("*.part"))


def losses(folder):
    lines = ground.metrics(folder / "out")
    return [(line["step"], line["loss"], line.get("val_loss")) for line in lines]


def weights(out):
    return sha256((out / "model/model.safetensors").read_bytes()).hexdigest()[:16]


def main():
    parser = options(
        __doc__, kills=20, updates=240, every=4, batch=8, context=64, seed=0, spread=2.0
    )
    parser.add_argument("--compiled", action="store_true")
    args = parser.parse_args()
    rng, found = random.Random(args.seed), []
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed = Path(temporary) / "whole", Path(temporary) / "killed"
        how = pick(args, "updates", "every", "batch", "context")
        ground.project(whole, 500, **how, compile=args.compiled)
        shutil.copytree(whole, killed)
        if begin(whole).wait():
            sys.exit("The run that nobody kills failed by itself.")
        head("kill", "aimed at", "updates logged", "last whole checkpoint", "cut off in writing")
        for i in range(args.kills):
            seen = kill(killed, rng, i % 2 == 1, args.spread)
            if seen is None:
                break
            found.append(seen)
            row(i + 1, "writing" if i % 2 else "any moment", *seen)
        over = begin(killed).wait()
        ends = [weights(folder / "out") for folder in (whole, killed)]
        logged = losses(whole) == losses(killed)
    same, cut = ends[0] == ends[1], sum(cut for *_, cut in found)
    print(
        f"\n{'compiled' if args.compiled else 'eager'}: {len(found)} of {args.kills} kills, "
        f"{cut} of them left a half-written checkpoint. Final weights {ends[0]} and {ends[1]}: "
        f"{'the same bytes' if same else 'DIFFERENT'}; logged losses "
        f"{'the same' if logged else 'DIFFERENT'}; exit code of the last start {over}."
    )
    sys.exit(not (same and logged and over == 0 and len(found) == args.kills))


if __name__ == "__main__":
    main()
