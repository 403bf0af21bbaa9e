"""Does a run that loses its machine again and again end with the same weights?

    python bench/preempt.py                   20 kills; about five minutes

`python pretrain.py --cpu` of a grown project is run once in peace. Then a run is handed to and fro
between two copies of the project, "two machines", that share nothing but a synced folder: `python
sync.py TARGET pretrain.py --cpu` is killed with SIGKILL, all its processes, and the other machine
goes on with the same command. After --kills of them the last one is left to end, and the next of
--runs begins from nothing. Half of the kills come at a random moment (at most --spread seconds)
after the first new save, the other half while a checkpoint is on its way. Compared, byte for byte:
out/model/model.safetensors; and update by update the losses. Counted at every kill: by how many
updates the checkpoint that the next machine goes on from is older than the last save. More than 0
means that the machine went before the copy was away; it is at most what lies between two saves if
the copy is faster than they. Exits 1 if any end differs.
"""

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
from resume import begin, losses, newest, wait_for, weights
from tables import head, options, pick, row


def synced(machine, target):
    """Start the synced run on a machine, in a process group of its own."""
    how = {"stderr": subprocess.DEVNULL, "start_new_session": True}
    return begin(machine, "sync.py", target, "pretrain.py", "--cpu", **how)


def kill(machine, target, rng, on_its_way, spread):
    """Run on a machine until it is taken away.

    Return (last save here, last note there), or None if the run was over before.
    """
    saved, noted = machine / "out/checkpoints", target / "pretrain-whole"
    process = synced(machine, target)
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
    """Hand one run to and fro; return (updates lost at each kill, exit code of the last start)."""
    lost = []
    for i in range(kills):
        seen = kill(machines[i % 2], target, rng, i % 2 == (i // 2) % 2, spread)
        if seen is None:
            break
        lost.append(seen[0] - seen[1])
        row(i + 1, "AB"[i % 2], *seen, lost[-1])
    return lost, synced(machines[len(lost) % 2], target).wait()


def main():
    numbers = {"runs": 4, "kills": 5, "updates": 240, "every": 4, "batch": 8, "context": 64}
    args = options(__doc__, **numbers, seed=0, spread=1.5).parse_args()
    rng, same, lost, codes = random.Random(args.seed), 0, [], []
    with tempfile.TemporaryDirectory() as temporary:
        whole, origin = Path(temporary) / "whole", Path(temporary) / "origin"
        ground.project(origin, 500, **pick(args, "updates", "every", "batch", "context"))
        shutil.copytree(origin, whole)
        if begin(whole).wait():
            sys.exit("The run that nobody kills failed by itself.")
        head("kill", "machine", "last save", "last note at TARGET", "updates lost")
        for run in range(args.runs):
            machines = [shutil.copytree(origin, Path(temporary) / f"{run}{name}") for name in "AB"]
            target = Path(temporary) / f"{run}-target"
            target.mkdir()
            gone, code = handed_over(machines, target, args.kills, rng, args.spread)
            last = machines[len(gone) % 2]
            ends = {weights(out) for out in (whole / "out", last / "out", target / "pretrain")}
            same += len(ends) == 1 and losses(whole) == losses(last)
            lost, codes = lost + gone, codes + [code]
    print(
        f"\n{len(lost)} kills in {args.runs} runs: {same} of {args.runs} ended with the same "
        f"bytes, here and at TARGET, and the same losses; exit codes {codes}. "
        f"Lost beyond the last save: {max(lost)} updates at most ({sum(map(bool, lost))} kills "
        f"came before the copy was away; a save every {args.every})."
    )
    good = same == args.runs and not any(codes) and len(lost) == args.runs * args.kills
    sys.exit(not good)


if __name__ == "__main__":
    main()
