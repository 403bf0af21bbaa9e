"""How long a person waits for the first words.

    python bench/start.py

Seconds until `handrail --help` has ended (asked: 0.15 at most), and until the walk, at a terminal,
asks its first question (asked: 1.5 at most). Median of --rounds, each in a new process.
"""

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pexpect
from tables import options

HANDRAIL = str(Path(sys.executable).with_name("handrail"))


def help_ends():
    subprocess.run([HANDRAIL, "--help"], stdout=subprocess.DEVNULL, check=True)


def first_question():
    with tempfile.TemporaryDirectory() as folder:
        child = pexpect.spawn(HANDRAIL, ["--cpu"], cwd=folder, timeout=60)
        child.expect("Which one")
        child.close(force=True)


def main():
    rounds, slow = options(__doc__, rounds=9).parse_args().rounds, False
    for what, most in ((help_ends, 0.15), (first_question, 1.5)):
        seconds = []
        for _ in range(rounds):
            clock = time.perf_counter()
            what()
            seconds.append(time.perf_counter() - clock)
        median = statistics.median(seconds)
        slow |= median > most
        spread = f"{min(seconds):.2f} to {max(seconds):.2f} in {rounds} rounds"
        print(f"{what.__name__}: {median:.2f} s (at most {most} asked; {spread})")
    sys.exit(slow)


if __name__ == "__main__":
    main()
