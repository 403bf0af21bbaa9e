"""Draw docs/walk.svg, the README's picture, from a real step on a terminal.

usage: python docs/picture.py DIR STEP
"""

import sys

import pexpect
from rich.console import Console
from rich.text import Text

folder, step = sys.argv[1:]
child = pexpect.spawn(
    "handrail",
    [step, folder, "--cpu", "--yes"],
    dimensions=(200, 100),
    encoding="utf-8",
    timeout=900,
)
child.expect(pexpect.EOF)
lines = [line.rpartition("\r")[2] for line in child.before.replace("\r\n", "\n").split("\n")]
lines = [line for line in lines if ", at most " not in line]  # progress
console = Console(record=True, width=100, file=open("/dev/null", "w"))
console.print(f"$ handrail {step}", Text.from_ansi("\n".join(lines).strip()), sep="\n")
console.save_svg("docs/walk.svg", title="handrail")
