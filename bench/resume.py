"""Does a run that is killed end with the same weights as one that is not?

    python bench/resume.py                    20 kills, eager; a few minutes
    python bench/resume.py --compiled         the same, compiled

`python pretrain.py --cpu` of a grown project is run once in peace. In a copy it is killed with SIGKILL, started again,
killed again ..., and after the last kill left to end. Half of the kills come at a random moment after the run's first
sign of life, the other half while a checkpoint is being written (its folder is called *.part). Compared, byte for byte:
out/model/model.safetensors; and update by update the losses in out/metrics.jsonl, which must be there once each.
Exits 1 if anything differs, or if the run was over before it had been killed often enough.
"""

import argparse
import json
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


def begin(folder):
    quiet = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    return subprocess.Popen(
        [sys.executable, "pretrain.py", "--cpu"], cwd=folder, stdout=subprocess.DEVNULL, env=quiet
    )


def wait_for(process, happened):
    """Look every half millisecond until something happened or the process is over; return True while it still runs."""
    while process.poll() is None and not happened():
        time.sleep(0.0005)
    return process.poll() is None


def kill(folder, rng, in_writing, spread):
    """Start the run and kill it; return what was found on the disk then, or None when it was over before."""
    made = lambda: (
        (folder / "out/metrics.jsonl").stat().st_size
        if (folder / "out/metrics.jsonl").exists()
        else 0
    )
    parts = lambda: list((folder / "out/checkpoints").glob("*.part"))
    process, before, left = begin(folder), made(), set(parts())
    moment = rng.uniform(0, 0.03 if in_writing else spread)  # seconds; writing takes 0.02 to 0.05
    if wait_for(process, (lambda: set(parts()) - left) if in_writing else lambda: made() != before):
        time.sleep(moment)
    process.send_signal(signal.SIGKILL)
    if process.wait() != -signal.SIGKILL:
        return None
    lines = (folder / "out/metrics.jsonl").read_text().splitlines() if made() else []
    whole = [
        int(path.name)
        for path in (folder / "out/checkpoints").glob("[0-9]*")
        if path.name.isdigit()
    ]
    return len(lines), max(whole, default=0), bool(parts())


def losses(folder):
    lines = [json.loads(line) for line in (folder / "out/metrics.jsonl").read_text().splitlines()]
    return [(line["step"], line["loss"], line.get("val_loss")) for line in lines]


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--compiled", action="store_true")
    for name, value in dict(kills=20, updates=240, every=4, batch=8, context=64, seed=0).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument(
        "--spread",
        type=float,
        default=2,
        help="a random kill comes up to so many seconds after the first sign of life",
    )
    args = parser.parse_args()
    rng = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as temporary:
        whole, killed = Path(temporary) / "whole", Path(temporary) / "killed"
        run = {name: getattr(args, name) for name in ("updates", "every", "batch", "context")}
        ground.project(whole, 500, **run, compile=args.compiled)
        shutil.copytree(whole, killed)
        if begin(whole).wait():
            sys.exit("The run that nobody kills failed by itself.")
        print(
            "| kill | aimed at | updates logged | last whole checkpoint | cut off in writing |\n|---|---|---|---|---|",
            flush=True,
        )
        found = []
        for i in range(args.kills):
            seen = kill(killed, rng, i % 2 == 1, args.spread)
            if seen is None:
                break
            found.append(seen)
            print(
                f"| {i + 1} | {'writing' if i % 2 else 'any moment'} | {seen[0]} | {seen[1]} | {'yes' if seen[2] else 'no'} |",
                flush=True,
            )
        over = begin(killed).wait()
        weights = [
            sha256((folder / "out/model/model.safetensors").read_bytes()).hexdigest()[:16]
            for folder in (whole, killed)
        ]
        same, logged = weights[0] == weights[1], losses(whole) == losses(killed)
    print(
        f"\n{'compiled' if args.compiled else 'eager'}: {len(found)} of {args.kills} kills, {sum(cut for *_, cut in found)} of them left a half-written "
        f"checkpoint. Final weights {weights[0]} and {weights[1]}: {'the same bytes' if same else 'DIFFERENT'}; logged losses "
        f"{'the same' if logged else 'DIFFERENT'}; exit code of the last start {over}."
    )
    sys.exit(0 if same and logged and over == 0 and len(found) == args.kills else 1)


if __name__ == "__main__":
    main()
