"""`watch COMMAND ...`: run anybody's training program, unchanged, while the doctor listens."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

from .findings import Finding, Refused, as_json, finding, report

HERE = Path(__file__).parent
EXAMPLE = f"As you would start it by itself: {HERE.parent.name} watch python train.py"
NO_STEP = (
    "The doctor saw no update in this command: no optimizer of torch steps in it, it is out of "
    "sight (inside backward or in a fork, for example), or it was ended too abruptly to say "
    "(os._exit, kill -9)."
)
NO_TORCH = "The doctor got into no process of this command that uses torch."
NOT_IN = "The doctor never got into this command: no Python that it started knew of it."
LET_IN = (
    "It comes in by PYTHONPATH. A script that replaces it (PYTHONPATH=src python train.py) shuts "
    "it out: write PYTHONPATH=src:$PYTHONPATH there. So do python -I and python -E: leave them "
    "out. In the program itself, `from handrail import Doctor; Doctor()` before the training "
    "does the same."
)


# --- inside the watched command ---


def attach():
    """Called in every Python of the watched command: listen, say what is found, write it down."""
    from .doctor import Doctor, wait_for_threads

    Path(os.environ["HANDRAIL_WATCH"], f"torch-{os.getpid()}").touch()
    doctor, owner = Doctor(), os.getpid()  # workers of a data loader are copies: they say nothing

    def tell(found, explained):
        if os.getpid() == owner and doctor.rank == 0:
            more = f" It explains {', '.join(explained)}." if explained else ""
            line = f"{found.name} ({found.level}, update {found.update}): {found.message}{more}"
            print(f"handrail: {line}", file=sys.stderr, flush=True)
            write_findings(doctor, owner)  # it may be killed later

    def write():
        if os.getpid() == owner:
            wait_for_threads()
            doctor.close()
            write_findings(doctor, owner)

    shown, leave = sys.excepthook, sys.exit

    def crashed(kind, error, trace):
        doctor.cut_short = True
        shown(kind, error, trace)
        with suppress(Exception):  # some cannot be printed
            for found in explain_crash(doctor, error):
                doctor.found(found)

    def left(code=None):
        doctor.cut_short = doctor.cut_short or code not in (None, 0)
        leave(code)

    doctor.tell, sys.excepthook, sys.exit = tell, crashed, left
    # atexit comes when threads can no longer be started, which loading a model needs
    threading._register_atexit(write)


def write_findings(doctor, process):
    """Write what a process found, for `watch` to read, if that is still there."""
    if doctor.updates or doctor.findings:
        seen = {"rank": doctor.rank, "updates": doctor.updates, "left_out": doctor.left_out}
        seen["findings"] = [asdict(found) for found in doctor.findings]
        with suppress(OSError):
            file = Path(os.environ["HANDRAIL_WATCH"], f"findings-{process}.json")
            part = file.with_suffix(".part")  # it may be killed while it writes
            part.write_text(json.dumps(seen))
            part.replace(file)


def explain_crash(doctor, error):
    """Yield what an exception that ended the program tells, if it is a well-known one."""
    text, update = str(error), doctor.updates
    outside = isinstance(error, IndexError) and "out of range in self" in text
    if outside or "device-side assert" in text:
        yield finding("vocabulary-mismatch/crash", text[:200], update)
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        name = "out-of-memory-late" if update else "out-of-memory"
        yield finding(name, text[:200], update, updates=update)


# --- around it ---


def read_findings(folder):
    """Return (findings, updates, what was left out) of all processes, each finding once."""
    found, updates, left = {}, 0, []
    notes = [json.loads(file.read_text()) for file in Path(folder).glob("findings-*.json")]
    for seen in sorted(notes, key=lambda seen: seen["rank"]):
        updates = max(updates, seen["updates"])
        left += [reason for reason in seen["left_out"] if reason not in left]
        for entry in (Finding(**entry) for entry in seen["findings"]):
            old = found.get(entry.name)
            if old is None or (old.level, entry.level) == ("warning", "certain"):
                found[entry.name] = entry
    if not updates and not found:
        left.append(why_nothing(Path(folder)))
    return list(found.values()), updates, left


def why_nothing(folder):
    """Return why the doctor saw no update of a command, and how to let it in."""
    if any(folder.glob("torch-*")):
        return NO_STEP
    reason = NO_TORCH if any(folder.glob("python-*")) else NOT_IN
    return f"{reason} {LET_IN}"


@contextmanager
def attached():
    """Yield (environment variables that let the doctor into a command, a reader of what it found).

    The command keeps its own packages: of ours it sees the one that the doctor is in.
    """
    package = __package__.split(".")[0]
    root = HERE.parents[len(__package__.split(".")) - 2] if "." in __package__ else HERE
    folder = Path(tempfile.mkdtemp(prefix="handrail-watch-"))
    alone = folder / "alone"
    alone.mkdir()
    (alone / package).symlink_to(root)
    paths = [str(HERE / "attach"), str(alone), os.environ.get("PYTHONPATH", "")]
    variables = {
        "HANDRAIL_WATCH": str(folder),
        "HANDRAIL_DOCTOR": __package__,
        "PYTHONPATH": os.pathsep.join(path for path in paths if path),
    }
    try:
        yield variables, lambda: read_findings(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def passed_on(process):
    """Pass on the signals that may come to this process alone: a machine goes away, a job ends.

    Ctrl-C goes to the command too, which may have to save: it gets the time.
    """
    names = [name for name in ("SIGTERM", "SIGHUP", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]
    before = {signal.SIGINT: signal.signal(signal.SIGINT, signal.SIG_IGN)}
    for number in (getattr(signal, name) for name in names):
        before[number] = signal.signal(number, lambda number, _: process.send_signal(number))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def watch(command, cwd=None, capture=False, env=None):
    """Run a command under the doctor.

    Return (its exit code, findings, updates, what was left out, what it printed).
    """
    output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT} if capture else {}
    with attached() as (variables, found):
        env = os.environ | (env or {}) | variables
        # what a shell opened for the command, as <(...), is not closed
        process = subprocess.Popen(command, cwd=cwd, env=env, text=True, close_fds=False, **output)
        with passed_on(process):
            printed = process.communicate()[0]
        code = process.returncode
        return code if code >= 0 else 128 - code, *found(), printed


def main(command, file=None):
    """Watch a command and print the report; return the command's own exit code.

    1 where that was 0 and something certain was found. `file` gets the findings as JSON. Raise
    Refused if there is no command.
    """
    if not command or command[0] in ("-h", "--help"):
        raise Refused(f"Which command? {EXAMPLE}")
    if shutil.which(command[0]) is None:
        raise Refused(f"There is no command {command[0]!r}. {EXAMPLE}")
    code, found, updates, left, _ = watch(command)
    if file:
        Path(file).write_text(as_json(found), encoding="utf-8")
    if not updates and not found:
        print(f"\n{left[-1]}", file=sys.stderr)
        return code
    print("\n" + report(found, updates, left), file=sys.stderr)
    return code or int(any(one.level == "certain" for one in found))
