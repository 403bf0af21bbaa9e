"""`handrail watch COMMAND ...`: run anybody's training program, unchanged, with the doctor beside it."""

import concurrent.futures.thread  # noqa: F401  registers its own end first
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from .findings import Finding, report

HERE = Path(__file__).parent


def attach():
    """Called inside every process of the watched command: listen, say what is found, write it down at the end."""
    from .doctor import Doctor

    doctor, folder = Doctor(), Path(os.environ["HANDRAIL_WATCH"])
    owner = os.getpid()  # workers of a data loader are copies of the process: they say nothing
    doctor.tell = lambda found, explained: (
        os.getpid() == owner
        and doctor.rank == 0
        and print(
            f"handrail: {found.name} ({found.level}, update {found.update}): {found.message}"
            + f" It explains {', '.join(explained)}." * bool(explained),
            file=sys.stderr,
            flush=True,
        )
    )

    def write():
        if os.getpid() != owner:
            return
        doctor.close()
        if doctor.updates or doctor.findings:
            seen = {
                "updates": doctor.updates,
                "left_out": doctor.left_out,
                "findings": [asdict(found) for found in doctor.findings],
            }
            (folder / f"findings-{doctor.rank}-{owner}.json").write_text(json.dumps(seen))

    shown = sys.excepthook

    def crashed(kind, error, trace):
        shown(kind, error, trace)
        for found in explain_crash(doctor, error):
            doctor.found(found)

    sys.excepthook = crashed
    threading._register_atexit(
        write
    )  # atexit itself comes when threads can no longer be started, to load a model with


def explain_crash(doctor, error):
    """Yield what an exception that ended the program tells, where it is one of the well-known ones."""
    text, update = str(error), doctor.updates
    if (
        isinstance(error, IndexError)
        and "out of range in self" in text
        or "device-side assert" in text
    ):
        yield Finding(
            "vocabulary-mismatch",
            "certain",
            "A number was looked up in a table that is too small for it: a token id in the embedding, or a place in the table of positions.",
            text[:200],
            [
                ("the tokenizer has more tokens than the model's vocabulary", 0.5),
                ("a row is longer than the model's table of positions", 0.3),
                ("tokens were added and the embedding was not resized", 0.2),
            ],
            "print ids.max() and ids.shape of that batch beside the config; vocab_size=len(tokenizer), or cut the row",
            update,
        )
    if "out of memory" in text.lower() or isinstance(error, MemoryError):
        lengths = [n for probe in doctor.probes for _, n in getattr(probe, "lengths", [])]
        longest = (
            f"; the longest row so far had {max(lengths):,} tokens, the last {lengths[-1]:,}"
            if lengths
            else ""
        )
        yield Finding(
            "out-of-memory-late" if update else "out-of-memory",
            "certain",
            f"Memory ran out after {update:,} updates.",
            text[:200] + longest,
            [
                ("a longer batch than all before, or the first evaluation", 0.8 if update else 0.3),
                ("the batch is too large", 0.2 if update else 0.7),
            ],
            "begin with the longest batch and one evaluation; a smaller batch with accumulation",
            update,
        )


def read_findings(folder):
    """Return (findings, updates, what was left out) of all processes of a watched command, each finding once."""
    found, updates, left = {}, 0, []
    for file in sorted(Path(folder).glob("findings-*.json")):
        seen = json.loads(file.read_text())
        updates = max(updates, seen["updates"])
        left += [reason for reason in seen["left_out"] if reason not in left]
        for entry in (Finding(**entry) for entry in seen["findings"]):
            old = found.get(entry.name)
            if old is None or (old.level, entry.level) == ("warning", "certain"):
                found[entry.name] = entry
    return list(found.values()), updates, left


@contextmanager
def attached():
    """Yield (environment variables that let the doctor into a command, a function that returns what read_findings does)."""
    folder = tempfile.mkdtemp(prefix="handrail-watch-")
    alone = Path(
        folder, "handrail-alone"
    )  # the command keeps its own packages: of ours it sees this one only
    alone.mkdir()
    (alone / "handrail").symlink_to(HERE.parent)
    paths = [str(HERE / "attach"), str(alone), os.environ.get("PYTHONPATH", "")]
    try:
        yield (
            {
                "HANDRAIL_WATCH": folder,
                "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            },
            lambda: read_findings(folder),
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def watch(command, cwd=None, capture=False, env=None):
    """Run a command under the doctor; return (its exit code, findings, updates, left out, what it printed)."""
    with attached() as (variables, found):
        env = os.environ | (env or {}) | variables
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            text=True,
            stdout=subprocess.PIPE if capture else None,
            stderr=subprocess.STDOUT if capture else None,
        )
        before = signal.signal(
            signal.SIGTERM, lambda *_: process.terminate()
        )  # the notice that a machine goes may come to this process alone
        try:
            printed = process.communicate()[0]
        except (
            KeyboardInterrupt
        ):  # it goes to the command too, which may have to save: it is given the time
            printed = process.communicate()[0]
        signal.signal(signal.SIGTERM, before)
        code = process.returncode
        return code if code >= 0 else 128 - code, *found(), printed


def main(command):
    """Run `handrail watch COMMAND`; return the command's own exit code, or 1 where it was 0 and something certain was found."""
    from handrail.project.project import Stop

    if not command or command[0] in ("-h", "--help"):
        raise Stop(
            "Which command? As you would start it without handrail: handrail watch python train.py"
        )
    if shutil.which(command[0]) is None:
        raise Stop(
            f"There is no command {command[0]!r}. As you would start it without handrail: handrail watch python train.py"
        )
    code, found, updates, left, _ = watch(command)
    if not updates and not found:
        print(
            "\nThe doctor saw no update in this command: no optimizer of torch's steps in it, or none in sight (inside backward, for example).",
            file=sys.stderr,
        )
        return code
    print("\n" + report(found, updates, left), file=sys.stderr)
    return code or int(any(finding.level == "certain" for finding in found))
