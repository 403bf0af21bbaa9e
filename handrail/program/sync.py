"""Every checkpoint on another machine too, because this one may be gone in a minute.

A rented machine can be taken back without asking, and its disk goes with it.
`python sync.py TARGET pretrain.py` runs your script, and sends each checkpoint,
once it has its name, to TARGET: a folder on another disk, user@host:folder (both
by rsync), or hf://buckets/owner/name. The same command on a new machine with
the same project fetches the newest, and the run goes on. One run, one TARGET.

The trap: half a checkpoint over there, cut off on its way, looks like a whole
one. So a note with its number is sent last, and nothing is fetched without one.
"""

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

OUT = Path(__file__).parent / "out"
SETTINGS = OUT.with_name("settings.toml")
STAGE = OUT / "sync"
RUN, NOTES = STAGE / "run", STAGE / "notes"  # what TARGET shall hold; the files of RUN are second names of those in out
SSH = os.environ.get("RSYNC_RSH", "ssh") + " -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15"


def copy(source, to, *more):
    """Copy what one folder holds into another, one of them at TARGET (--delete: and nothing else stays); OSError if not."""
    ends = [f"{source}/", f"{to}/"]
    bucket = any(end.startswith("hf://") for end in ends)
    command = [Path(sys.executable).with_name("hf"), "buckets", "sync"] if bucket else ["rsync", "-rt", "--timeout=60", "-e", SSH]
    done = subprocess.run([*command, *more, *ends], capture_output=True, text=True)
    if done.returncode:
        raise OSError(" ".join(done.stderr.split())[:300])


def numbers(folder):
    """Return the numbers (eight digits) of the checkpoints in a folder that have their name, oldest first."""
    return sorted(path.name for path in folder.glob("[0-9]*") if path.name.isdigit())


def newest(folder):
    return max(numbers(folder), default="")


def fetch(target, folder, data):
    """Bring the newest checkpoint that has a note at `target`, and its metrics, unless there is one as new here; `data` is a mark of what it reads."""
    shutil.rmtree(STAGE, ignore_errors=True)
    NOTES.mkdir(parents=True)
    (NOTES / "README").write_text("Kept by sync.py: each number here is a checkpoint that is whole in the folder beside this one.\n")
    copy(NOTES, f"{target}-whole")  # fails here, and not hours later, if nothing can be written there
    copy(f"{target}-whole", STAGE / "there")
    there, step, saved = STAGE / "there", newest(STAGE / "there"), folder / "checkpoints"
    run = lambda file: lasting(tomllib.loads(file.read_text(encoding="utf-8")))
    mine = run(SETTINGS)
    if step and (run(there / "settings.toml") != mine or (there / "data").read_text() != data):
        raise OSError(f"another run lies there, of other settings or other data: compare {there / 'settings.toml'} with yours, and give "
                      "this one a TARGET of its own")  # fmt: skip
    (NOTES / "data").write_text(data)
    shutil.copy2(SETTINGS, NOTES)
    if step > newest(saved):
        saved.mkdir(parents=True, exist_ok=True)
        copy(f"{target}/checkpoints/{step}", saved / f"{step}.part")
        copy(f"{target}/log", STAGE / "log")
        old, new = folder / "metrics.jsonl", STAGE / "log" / "metrics.jsonl"
        if old.exists() and not new.read_bytes().startswith(old.read_bytes()):
            os.replace(old, folder / "metrics-before.jsonl")  # of another run
        os.replace(new, old)
        os.rename(saved / f"{step}.part", saved / step)
        print(f"sync: checkpoint {step} is here now", flush=True)


def lasting(settings):
    """Return the settings that may not change in the middle of a run."""
    kept = {name: value for name, value in settings.items() if name not in ("prompt", "rows_at_once", "compile")}
    return {name: lasting(value) if isinstance(value, dict) else value for name, value in kept.items()}


def link(file, to):
    """Give a file a second name, so that it stays when a later save removes it; where a disk knows none, copy it."""
    try:
        os.link(file, to)
    except OSError:
        shutil.copy2(file, to)


def stage(folder, step, model):
    """Bring RUN up to date: checkpoint `step` and the one sent before it, what was logged, at the end the model."""
    for part in ("log", "checkpoints"):
        (RUN / part).mkdir(parents=True, exist_ok=True)
    for file in filter(Path.exists, (folder / "metrics.jsonl", OUT / "log.txt")):
        shutil.copy2(file, RUN / "log")
    if step and step not in numbers(NOTES):
        shutil.copytree(folder / "checkpoints" / step, RUN / "checkpoints" / step, copy_function=link)
        (NOTES / step).write_text(f"Checkpoint {step} is whole.\n")
    for old in numbers(NOTES)[:-2]:
        (NOTES / old).unlink()
        shutil.rmtree(RUN / "checkpoints" / old)
    if model:
        shutil.copytree(folder / "model", RUN / "model", copy_function=link)


def push(target, folder, model=False):
    """Send what is new, then its note, then remove what is old; return (its number, is it safe). A failure is said and stops nothing."""
    step = newest(folder / "checkpoints")
    if not (step or model):
        return step, True
    try:
        stage(folder, step, model)
        copy(RUN, target)
        copy(NOTES, f"{target}-whole")
        copy(RUN / "checkpoints", f"{target}/checkpoints", "--delete")  # nothing else that may lie there is touched
        copy(NOTES, f"{target}-whole", "--delete")
        print(f"sync: checkpoint {step}{' and the model are' if model else ' is'} safe at {target}", flush=True)
        return step, True
    except OSError as error:
        print(f"sync: NOT SAFE: {target} did not take checkpoint {step}: {error}. The run goes on. The next save tries again; "
              "when it is over, the same command does.", file=sys.stderr, flush=True)  # fmt: skip
        return step, False


def main():
    target, *command = sys.argv[1:] or [""]
    scripts = [Path(word) for word in command if word.endswith(".py")]  # `-m torch.distributed.run` may stand first
    name = scripts[0].stem if scripts and scripts[0].exists() else ""
    if not name or not target:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    OUT.mkdir(exist_ok=True)
    lock = open(OUT / "sync.lock", "a+")  # the script inherits it, and holds it longer than this one if this one is killed
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        print(f"A run that sync.py started is still going here, process {lock.read()}. Wait for it, or end it (kill and that number: it "
              "saves first). Then the same command sends what it left.", file=sys.stderr)  # fmt: skip
        sys.exit(2)
    folder, there = OUT if name == "pretrain" else OUT / name, f"{target.rstrip('/')}/{name}"
    data = OUT / ("tokens/about.json" if name == "pretrain" else "chats/train.jsonl")
    try:
        fetch(there, folder, hashlib.sha256(data.read_bytes()).hexdigest() if data.exists() else "")
    except KeyboardInterrupt:
        print("Stopped before anything was started.")
        sys.exit(130)
    except (OSError, ValueError) as error:  # settings.toml may hold a slip
        print(f"{target} cannot be used: {error}\nNothing was started: it would begin again what may lie there. Check network, login, "
              "mount, and that rsync is there. A new TARGET is made first: mkdir FOLDER there, or hf buckets create OWNER/NAME.", file=sys.stderr)  # fmt: skip
        sys.exit(2)
    if os.path.isdir(target) and os.stat(target).st_dev == os.stat(OUT).st_dev:
        print(f"sync: {target} is on the same disk as the run: that helps against a mistake, and not when the machine is gone.", file=sys.stderr, flush=True)
    script, sent = subprocess.Popen([sys.executable, *command], pass_fds=[lock.fileno()]), ""
    lock.truncate(0)
    print(script.pid, end="", file=lock, flush=True)
    for kind in (signal.SIGINT, signal.SIGTERM):
        signal.signal(kind, lambda number, _: script.send_signal(number))  # it saves, then ends
    while script.poll() is None:
        if newest(folder / "checkpoints") != sent:
            sent, _ = push(there, folder)
        time.sleep(0.2)
    _, safe = push(there, folder, model=script.returncode == 0 and (folder / "model").exists())
    sys.exit(128 - script.returncode if script.returncode < 0 else script.returncode or int(not safe))


if __name__ == "__main__":
    main()
