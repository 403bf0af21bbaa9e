"""Every checkpoint on another machine too, because this one may be gone in a minute.

A rented machine can be taken back at any moment, and its disk goes with it.
`python sync.py TARGET pretrain.py` runs your script and sends each checkpoint to
TARGET: a folder on another disk, user@host:folder (both by rsync), or
hf://buckets/OWNER/NAME. On a new machine with the same project, the same command
fetches the newest checkpoint and the run resumes. Give each run its own TARGET,
and make it first: mkdir FOLDER over there, or hf buckets create OWNER/NAME.

The trap: half a checkpoint, cut off while it was sent, looks like a whole one.
So a note with its number is sent last, and nothing without a note is fetched.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from settings import OUT, ROOT, refuse

os.environ.setdefault("RSYNC_RSH", "ssh -o BatchMode=yes -o ConnectTimeout=10")  # for rsync


def copy(source, to, *more):
    """Copy what is in one folder into another, one of them at TARGET; OSError if that fails."""
    command = ["rsync", "-rt", "--timeout=60"]
    if "hf://" in f"{source} {to}":
        command = [Path(sys.executable).with_name("hf"), "buckets", "sync"]
    done = subprocess.run([*command, *more, f"{source}/", f"{to}/"], capture_output=True, text=True)
    if done.returncode:
        raise OSError(" ".join(done.stderr.split())[:300])


def newest(folder):
    """Return the name of the newest checkpoint in a folder (eight digits), "" if there is none."""
    return max((path.name for path in folder.glob("[0-9]*") if path.name.isdigit()), default="")


def fetch(there, run, stage):
    """Bring the newest checkpoint that has a note, and its metrics, if this machine is behind."""
    shutil.rmtree(stage, ignore_errors=True)
    (stage / "notes").mkdir(parents=True)
    (stage / "notes" / "README").write_text("Each number here: that checkpoint is whole.\n")
    copy(stage / "notes", f"{there}-whole")  # fails now, not in an hour, if there is no TARGET
    copy(f"{there}-whole", stage / "notes")
    step = newest(stage / "notes")
    if step > newest(run / "checkpoints"):
        copy(f"{there}/checkpoints/{step}", stage / step)
        os.renames(stage / step / "metrics.jsonl", run / "metrics.jsonl")
        os.renames(stage / step, run / "checkpoints" / step)


def push(there, run, stage, step, over):
    """Send a checkpoint, then its note, and if the run is `over` the model; return how it went.

    What is sent has a second name (a hard link) in `stage`: a save only deletes the first one.
    """
    copies = stage / "run" / "checkpoints"
    try:
        if not (copies / step).exists():
            shutil.copytree(run / "checkpoints" / step, stage / step, copy_function=os.link)
            os.renames(stage / step, copies / step)  # as in `save`: no half has the name
        for old in sorted(copies.iterdir())[:-2]:
            shutil.rmtree(old)
        for log in (*run.glob("metrics.jsonl"), *stage.parent.glob("log.txt")):
            shutil.copy2(log, copies / step)
        copy(stage / "run", there)
        (stage / "notes" / step).touch()
        copy(stage / "notes", f"{there}-whole")
        copy(copies, f"{there}/checkpoints", "--delete")  # of those there, all but two
        if over:
            copy(run / "model", f"{there}/model")
    except OSError as error:
        return f"NOT SAFE ({error}). The next save tries again, or later the same command."
    return "safe"


def main():
    """Fetch, run the script, and send each checkpoint that it saves; at its end the model."""
    target, *words = sys.argv[1:] or [""]
    scripts = [Path(word) for word in words if word.endswith(".py")]  # after torchrun's, if any
    if not target or not scripts or not scripts[0].exists():
        refuse(__doc__)
    parts, name = "=".join([*words, "--out=out"]).split("="), scripts[0].stem
    out = ROOT / parts[parts.index("--out") + 1]  # the script's --out X, or --out=X, or the default
    run = out if name == "pretrain" else out / name
    there, stage = f"{target.rstrip('/')}/{name}", out / "sync"
    try:
        lock = open(OUT / "sync.lock", "a")
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fetch(there, run, stage)
    except BlockingIOError:
        pid = (OUT / "sync.lock").read_text()
        refuse(f"A run is still going here. Wait for it, or stop it: kill {pid} (it saves first).")
    except OSError as error:
        refuse(f"Nothing was started, because {target} cannot be used: {error}\n\n{__doc__}")
    script = subprocess.Popen([sys.executable, *words], pass_fds=[lock.fileno()])
    (OUT / "sync.lock").write_text(str(script.pid))  # it holds the lock, even if this one is killed
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda number, _: script.send_signal(number))  # it saves, then ends
    code, tried, said = None, "", f"nothing was sent, because there is no checkpoint in {run}"
    while code is None:
        time.sleep(0.2)
        code, step = script.poll(), newest(run / "checkpoints")
        if step and (step != tried or code is not None):
            tried, said = step, push(there, run, stage, step, over=code == 0)
            print(f"sync: checkpoint {step} at {there}: {said}", flush=True)
    sys.exit(code or (0 if said == "safe" else f"sync: {said}"))


if __name__ == "__main__":
    main()
