"""What `make walk` runs: look at the machine, set up the venv, start handrail.

Standard library only: it runs before there is a venv. Its words are passed on to handrail.
"""

import os
import platform
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).parent.parent

NO_GPU = """No GPU was found on this machine. Training needs one, except for first steps.
The choices:

  1  Use the CPU: fine for the first, small model (about 10 minutes).
       {command}
  2  Rent a GPU (about $0.50 an hour) or borrow one, and type the same there.
  3  A notebook service with a free GPU: clone this repository there, type the same.

If this machine has a GPU, its driver is missing: `nvidia-smi` must list it."""


def gpu():
    """Return the name of the GPU that the operating system reports, or None."""
    if platform.system() == "Darwin" and platform.machine() == "arm64":
        return "Apple GPU (MPS)"
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        found = subprocess.run(query, capture_output=True, text=True)
        if found.returncode == 0 and found.stdout.strip():
            return found.stdout.splitlines()[0].strip()
    return "AMD GPU (ROCm)" if Path("/dev/kfd").exists() else None


def needs_cpu(command):
    """Return False where there is a GPU. Else show the choices: True if a person chooses the CPU.

    `command` is what that person could have typed to choose it. No choice is exit code 2.
    """
    if gpu():
        return False
    print(NO_GPU.format(command=command), file=sys.stderr)
    if sys.stdin.isatty():
        if input("\nType 1 to use the CPU, Enter to stop: ").strip() == "1":
            print(f"Next time, without the question: {command}\n")
            return True
        print("Nothing was started.", file=sys.stderr)
    sys.exit(2)


def main():
    """Look, set up `.venv` with the pinned packages if it is not there yet, then run handrail."""
    if sys.version_info < (3, 11):  # noqa: UP036  no venv has checked it yet
        sys.exit(f"handrail needs Python 3.11 or newer; this is {platform.python_version()}")
    words = sys.argv[1:]
    command = "make walk CPU=1"
    if words:
        command += f" ARGS={shlex.quote(shlex.join(words))}"
    if "--cpu" not in words and needs_cpu(command):
        words.append("--cpu")
    subprocess.run(["make", "-s", "venv"], cwd=HOUSE, check=True)
    os.execv(HOUSE / ".venv/bin/handrail", ["handrail", *words])


if __name__ == "__main__":
    try:
        main()
    except (KeyboardInterrupt, EOFError):
        sys.exit("\nStopped. Nothing was started.")
