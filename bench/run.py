"""All benchmarks, one after the other, each in a process of its own; 1½ hours on two quiet cores.

    python bench/run.py                       all
    python bench/run.py resume processes      some of them

Exits 1 if one of them did. learn.jsonl keeps the runs of `learn` and `sizes`: move it away to make
them anew.
"""

import subprocess
import sys
import time
from pathlib import Path

BENCHES = {
    "start": ["start.py"],
    "processes": ["processes.py"],
    "data": ["data.py", "--mb", "100"],
    "resume": ["resume.py"],
    "resume-compiled": ["resume.py", "--compiled"],
    "loop": ["loop.py"],
    "finetune": ["finetune.py"],
    "learn": ["learn.py", "--updates", "800", "1200"],
    "sizes": ["learn.py", "--sizes", "--updates", "800"],
}

names = sys.argv[1:] or list(BENCHES)
if unknown := set(names) - set(BENCHES):
    known = ", ".join(BENCHES)
    print(f"Unknown: {', '.join(sorted(unknown))}. There are: {known}", file=sys.stderr)
    sys.exit(2)
failed = []
for name in names:
    script, *arguments = BENCHES[name]
    print(f"\n## {name}: python bench/{' '.join(BENCHES[name])}\n", flush=True)
    clock = time.perf_counter()
    command = [sys.executable, Path(__file__).with_name(script), *arguments]
    if subprocess.run(command).returncode:
        failed.append(name)
    print(f"\n({time.perf_counter() - clock:.0f} s)", flush=True)
if failed:
    sys.exit(f"Not reached, or broken off: {', '.join(failed)}")
