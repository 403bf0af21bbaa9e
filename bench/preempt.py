"""Does a run that loses its machine again and again end with the same weights?

    python bench/preempt.py                   20 kills; about five minutes

`python pretrain.py --cpu` of a grown project is run once in peace. Then a run is handed to and fro between two copies of
the project, "two machines", that share nothing but a synced folder: `python sync.py TARGET pretrain.py --cpu` is killed
with SIGKILL, all its processes, and the other machine goes on with the same command. After --kills of them the last one
is left to end, and the next of --runs begins from nothing. Half of the kills come at a random moment after the first sign
of life, the other half while a checkpoint is on its way. Compared, byte for byte: out/model/model.safetensors; and update
by update the losses. Counted at every kill: by how many updates the checkpoint that the next machine goes on from is
older than the last save. More than 0 means that the machine went before the copy was away; it is at most what lies between
two saves if the copy is faster than they. Exits 1 if any end differs.
"""

import argparse
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import ground
from resume import losses, wait_for

QUIET = os.environ | {"HF_HUB_DISABLE_PROGRESS_BARS": "1"}


def begin(machine, target):
    """Start the synced run on a machine, in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "sync.py", target, "pretrain.py", "--cpu"],
        cwd=machine,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=QUIET,
        start_new_session=True,
    )


def newest(folder):
    return max((int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()), default=0)


def kill(machine, target, rng, on_its_way, spread):
    """Run on a machine until it is taken away; return (last save here, last note there), or None if the run was over before."""
    saved, noted = machine / "out/checkpoints", target / "pretrain-whole"
    process = begin(machine, target)
    arrived = max(newest(saved), newest(noted))
    moment = rng.uniform(0, spread)
    if wait_for(process, lambda: newest(saved) > arrived):
        time.sleep(moment)
    if on_its_way:
        wait_for(process, lambda: newest(saved) > newest(noted))
        time.sleep(rng.uniform(0, 0.15))  # a copy takes about that long
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    over = (machine / "out/model/config.json").exists()
    return None if over else (newest(saved), newest(noted))


def handed_over(machines, target, kills, rng, spread):
    """Hand one run to and fro; print each kill; return (updates lost at each kill, exit code of the last start)."""
    lost = []
    for i in range(kills):
        seen = kill(machines[i % 2], target, rng, i % 2 == (i // 2) % 2, spread)
        if seen is None:
            break
        lost.append(seen[0] - seen[1])
        print(f"| {i + 1} | {'AB'[i % 2]} | {seen[0]} | {seen[1]} | {lost[-1]} |", flush=True)
    return lost, begin(machines[len(lost) % 2], target).wait()


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    for name, value in dict(
        runs=4, kills=5, updates=240, every=4, batch=8, context=64, seed=0
    ).items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument(
        "--spread",
        type=float,
        default=1.5,
        help="a kill comes up to so many seconds after the first new save",
    )
    args = parser.parse_args()
    rng, same, lost, codes = random.Random(args.seed), 0, [], []
    with tempfile.TemporaryDirectory() as temporary:
        whole, origin = Path(temporary) / "whole", Path(temporary) / "origin"
        ground.project(
            origin,
            500,
            **{name: getattr(args, name) for name in ("updates", "every", "batch", "context")},
        )
        shutil.copytree(origin, whole)
        if subprocess.run(
            [sys.executable, "pretrain.py", "--cpu"],
            cwd=whole,
            stdout=subprocess.DEVNULL,
            env=QUIET,
        ).returncode:
            sys.exit("The run that nobody kills failed by itself.")
        print(
            "| kill | machine | last save | last note at TARGET | updates lost |\n|---|---|---|---|---|",
            flush=True,
        )
        for run in range(args.runs):
            machines = [shutil.copytree(origin, Path(temporary) / f"{run}{name}") for name in "AB"]
            target = Path(temporary) / f"{run}-target"
            target.mkdir()
            gone, code = handed_over(machines, target, args.kills, rng, args.spread)
            last = machines[len(gone) % 2]
            bits = [
                (folder / "model/model.safetensors").read_bytes()
                for folder in (whole / "out", last / "out", target / "pretrain")
            ]
            same += bits[0] == bits[1] == bits[2] and losses(whole) == losses(last)
            lost, codes = lost + gone, codes + [code]
    print(
        f"\n{len(lost)} kills in {args.runs} runs: {same} of {args.runs} ended with the same bytes, here and at TARGET, and the same losses; exit "
        f"codes {codes}. Lost beyond the last save: {max(lost)} updates at most ({sum(map(bool, lost))} kills came before the copy was "
        f"away; a save every {args.every})."
    )
    sys.exit(
        0 if same == args.runs and not any(codes) and len(lost) == args.runs * args.kills else 1
    )


if __name__ == "__main__":
    main()
