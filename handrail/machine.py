"""Look at the machine before anything is installed or asked. Standard library only: it runs before there is a venv.

`python3 -m handrail.machine [flags of handrail]` is what `make walk` calls: look, ask if there is no GPU, set up the
venv, and hand over to `handrail`.
"""

import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).parent.parent

NO_GPU = """No GPU was found on this machine. Training needs one, except for small first steps. The choices:

  1  Walk on the CPU: fine for the first, small model (about 10 minutes).
       make walk CPU=1        or: handrail --cpu
  2  Rent a GPU (about $0.50 an hour) or borrow one, and type the same command there.
  3  A notebook service with a free GPU: clone this repository there, same command.

If there is a GPU in this machine, its driver is missing: `nvidia-smi` must list it."""


def gpu():
    """Return the name of the GPU that the operating system reports, or None. Says nothing about torch."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "Apple GPU (MPS)"
    if shutil.which("nvidia-smi"):
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"],
            capture_output=True,
            text=True,
        )
        if found.returncode == 0 and found.stdout.strip():
            return found.stdout.splitlines()[0].strip()
    return "AMD GPU (ROCm)" if Path("/dev/kfd").exists() else None


def choose(arguments):
    """Return the arguments to go on with: unchanged when there is a GPU or --cpu, asked for on a terminal, else exit 2."""
    if "--cpu" in arguments or gpu():
        return arguments
    print(NO_GPU, file=sys.stderr)
    if not sys.stdin.isatty():
        sys.exit(2)
    if input("\nType 1 to walk on the CPU, Enter to stop: ").strip() == "1":
        return [*arguments, "--cpu"]
    sys.exit(2)


def main():
    """Look, set up `.venv` with the pinned packages when it is not there yet, go on as `handrail`."""
    if sys.version_info < (3, 11):
        sys.exit("handrail needs Python 3.11 or newer; this is " + platform.python_version())
    arguments = choose(sys.argv[1:])
    subprocess.run(["make", "--no-print-directory", "venv"], cwd=HOUSE, check=True)
    os.execv(HOUSE / ".venv/bin/handrail", ["handrail", *arguments])


if __name__ == "__main__":
    main()
