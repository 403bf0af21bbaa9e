"""Any rented machine that ssh reaches: `handrail rent ssh user@host[:port] [DIR]`, by lines that it shows first.

The job is detached: it lives on when this laptop is closed. It is one small shell script, out/job.sh. While it runs it
holds out/lock over there; when it is over its exit code stands in out/exit. So the same command, typed again, follows
what runs, fetches what is over, and starts nothing twice. No host key is accepted and no machine is ended for you.
"""

import argparse
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from textwrap import indent

from handrail.project import Stop
from handrail.rent.luggage import CAUSES, bring, chosen, opened, travels
from handrail.rent.run_mark import home, lasting, mark, newest, of_another_run, whole

OPTIONS = ["-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "ServerAliveInterval=15"]
PATIENCE = 600  # seconds without any connection, after which the machine is taken for gone
VENV = 9e9  # bytes that torch with CUDA and the rest take

JOB = """# Written by `handrail rent ssh`: sets up .venv if requirements.txt is new, runs the script, leaves its exit code.
exec 9> out/lock && flock -w 5 9 || exit
rm -f out/exit out/fetched
echo {name} > out/script
echo {mark} > out/mark
echo $$ > out/pid
exec > out/log.txt 2>&1
trap : TERM  # is for the script: it saves, then ends
{setup}PYTHONUNBUFFERED=1 {python} {name}.py{cpu}
echo $? > out/exit
"""
SETUP = """wanted=$(cksum requirements.txt)
[ "$(cat .venv/wanted 2> /dev/null)" = "$wanted" ] || {{
  echo "Setting up .venv, once; that takes minutes ..."
  {python} -m venv .venv && .venv/bin/pip install -q -r requirements.txt && echo "$wanted" > .venv/wanted
}} && """

LOOK = """for p in {pythons}; do $p -c {fit} 2> /dev/null && echo "python $p" && break; done
for p in rsync flock setsid; do command -v $p > /dev/null && echo "$p yes"; done
gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2> /dev/null) || gpu=
[ -z "$gpu" ] && [ -e /dev/kfd ] && gpu="AMD GPU (ROCm)"
echo "gpu $(echo "$gpu" | head -n 1)"
echo "gpus $(echo "$gpu" | wc -l)"
echo "free $(df -Pk . | awk 'NR == 2 {{print $4}}')"
"""
STATE = """cd {far} 2> /dev/null || exit 0
[ -e out/lock ] && {{ flock -n out/lock true && echo "state over" || echo "state running"; }}
for f in pid exit script mark fetched; do [ -e out/$f ] && echo "$f $(cat out/$f)"; done
[ -e .venv/wanted ] && echo "venv yes"
for f in $(md5sum -c --quiet out/sent 2> /dev/null | cut -d: -f1); do [ -e $f ] && echo "edited/$f $(md5sum < $f | cut -c 1-32)"; done
[ -e {place} ] && echo "made yes"
echo "log $(cat out/log.txt 2> /dev/null | wc -c)"
echo "newest $(ls {place}/checkpoints 2> /dev/null | grep -E '^[0-9]+$' | tail -n 1)"
echo "free $(df -Pk . | awk 'NR == 2 {{print $4}}')"
"""
FOLLOW = """cd {far} && for i in 1 2 3 4 5 6 7 8 9; do [ -s out/pid ] && break; sleep 0.3; done
tail -c +{start} -s 0.3 -F out/log.txt 2> /dev/null & t=$!
flock -s out/lock true; sleep 0.7; kill $t"""  # the job holds the lock, or, if its shell was killed, the script that it left

MONEY = """
{host} STILL COSTS MONEY, whether or not something runs on it, until you stop it where you rented it: on the provider's
page, in its console (terminate or delete; a machine that is only stopped often still costs its disk). Then look that it
is gone from the list there. Whether it still answers: {ssh} echo it is still on"""

FULL = r"No space left on device|Disk quota exceeded|update \d+ could not be written"  # torch has no better word for it
MEANS = {  # in the log of a job that failed: what it means on a machine of one's own
    "no GPU that PyTorch can use": "The machine has no GPU that torch can use: its driver and this torch do not fit together. Rent it with a newer "
    "driver (an image with CUDA 12.8 or later), or use the torch of its image: --python /its/python.",
    **CAUSES,
    FULL: "The disk over there is full. What was saved before is whole, and nothing is lost here. Make room there "
    "(df -h; old folders in ~/handrail), or rent a larger disk.",
    "gated repo|401 Client Error|restricted": "The model has to be asked for, and that machine is not logged in. Accept its licence on its page at huggingface.co, then: "
    "{tty} {far}/.venv/bin/hf auth login",
    "Temporary failure in name resolution|couldn't connect to|Max retries exceeded|NewConnectionError": "That machine has no way into the network, "
    "or the server it asked was away. Try: {ssh} curl -I https://huggingface.co",
}


class Away(Stop):
    """The machine did not answer; it may do so later."""


# --- one way to the other side ---


def short(job):
    """Return `ssh [-p PORT]` as a person types it."""
    return ["ssh", *(["-p", job.port] if job.port else [])]


def ssh(job):
    return [*shlex.split(os.environ.get("HANDRAIL_SSH", "ssh")), *short(job)[1:], *OPTIONS]


def there(job, command):
    """Run a command over there; return what it printed. Raises Away or Stop when there is no way to do so."""
    done = subprocess.run(
        [*ssh(job), job.host, command], capture_output=True, text=True, stdin=subprocess.DEVNULL
    )
    if done.returncode == 255:
        raise refusal(job, done.stderr)
    return done.stdout


def facts(job, command):
    """Return what a command over there prints, lines of a name and a value, as a dict."""
    return dict(line.partition(" ")[::2] for line in there(job, command).splitlines())


def refusal(job, said):
    """Return as a Stop why ssh did not get in."""
    by_hand, where = shlex.join([*short(job), job.host]), job.host.split("@")[-1]
    if "IDENTIFICATION HAS CHANGED" in said:
        old = f"[{where}]:{job.port}" if job.port else where
        return Stop(
            f"{job.host} shows another host key than the machine you met there before. Addresses of rented machines are given to new ones; "
            f"if yours is new: ssh-keygen -R '{old}', then once by hand: {by_hand}\nIf it is not, somebody may stand in between: do not go on."
        )
    if "host key is known" in said or "Host key verification failed" in said:
        return Stop(
            f"{job.host} is not known to this machine yet. Meet it once by hand: {by_hand}\nCompare the fingerprint that it shows with the "
            "one on your provider's page, type yes, leave with `exit`. Then the same command again."
        )
    if "Permission denied" in said or "Too many authentication" in said:
        return Stop(
            f"{job.host} takes none of your keys. The public key (~/.ssh/id_ed25519.pub; made by `ssh-keygen -t ed25519`) has to be given to your "
            f"provider before the machine starts, or `ssh-copy-id`. Is the user right? The key's file, if it is another, goes into ~/.ssh/config. Try: {by_hand}"
        )
    return Away(
        f"{job.host} does not answer: {' '.join(said.split())[-200:] or 'no reason given'}\nIs the machine on, and are address and port right? Try: {by_hand}"
    )


def copy(job, command, where):
    """Run rsync; raise Stop when it did not get through. `where` is the side that is written to."""
    done = subprocess.run(command, capture_output=True, text=True, cwd=job.folder)
    if done.returncode == 255:
        raise refusal(job, done.stderr)
    if re.search(FULL, done.stderr):
        raise Stop(
            f"The disk of {where} is full. Nothing is lost, here or there. Make room (`df -h` shows how much there is); the same command goes on."
        )
    if "is your shell clean" in done.stderr:
        raise Stop(
            f"{job.host} prints something when one logs in, which copying cannot do with: let its ~/.bashrc say nothing where nobody types (begin it with: [ -t 0 ] || return)."
        )
    if done.returncode:
        raise Away(
            f"Copying stopped: {' '.join(done.stderr.split())[-300:]}\nNothing is lost; the same command goes on."
        )


# --- before it starts ---


def options(words):
    p = argparse.ArgumentParser(
        "handrail rent ssh",
        description="Run the project's training on a rented machine; typed again: follow it, fetch it.",
    )
    p.add_argument("host", help="user@host, user@host:port, or a name of your ~/.ssh/config")
    p.add_argument(
        "dir",
        nargs="?",
        default="." if Path("settings.toml").exists() else "first-model",
        help="the project",
    )
    p.add_argument("--script", help="pretrain or finetune; default: what the walk trains with")
    p.add_argument(
        "--cpu", action="store_true", help="use the CPU over there, knowing that it is slow"
    )
    p.add_argument(
        "--python", help="a Python over there that has torch and the rest already; no .venv is made"
    )
    p.add_argument("--yes", action="store_true", help="start without asking")
    p.add_argument(
        "--stop",
        action="store_true",
        help="ask the job to save and end, then fetch; the machine stays on",
    )
    return p.parse_args(words)


def read(words):
    """Return the job that is meant: which machine, which project."""
    job = options(words)
    if not (found := re.fullmatch(r"((?:[\w.-]+@)?\w[\w.-]*)(?::(\d+))?", job.host)):
        raise Stop(
            f"{job.host!r} names no machine. It looks like root@203.0.113.5 or root@203.0.113.5:22022; an IPv6 address gets a name in ~/.ssh/config first"
        )
    for tool in ("ssh", "rsync"):
        if not shutil.which(tool):
            raise Stop(
                f"There is no {tool} on this machine. Install it: sudo apt-get install -y openssh-client rsync"
            )
    job.typed, (job.host, job.port) = job.host, found.groups()
    job.project = opened(job.dir)
    job.folder = job.project.folder
    job.far = (
        "handrail/"
        + re.sub(r"[^A-Za-z0-9_.-]", "-", job.folder.name)
        + f"-{job.project.mark()}".rstrip("-")
    )  # seen from its home
    return job


def about(job, name):
    """Let the job be about a script; what that makes lies in out, or in out/NAME."""
    job.name, job.place = name, "out" if name == "pretrain" else f"out/{name}"


def state(job):
    """Return how it stands over there, as far as there is anything: {"state": "running" or "over", "exit": ..., ...}."""
    return facts(job, STATE.format(far=job.far, place=job.place))


def luggage(job, now):
    """Return what is copied, as paths in the project: program, prepared data, model, and the newest checkpoint if there is none as new."""
    saved = newest(job.folder / job.place / "checkpoints")
    if saved > now.get("newest", "") and of_another_run(job.project, job.name):
        raise Stop(
            f"What lies in {job.folder / job.place / 'checkpoints'} is another run, {int(saved):,} updates long, of other settings or other data, and this one would go on from it. "
            f"To begin anew, move it away: {shlex.join(['mv', str(job.folder / job.place / 'checkpoints'), str(job.folder / job.place / 'checkpoints-before')])}"
        )
    going_on = (
        [f"{job.place}/checkpoints/{saved}", f"{job.place}/metrics.jsonl"]
        if saved > now.get("newest", "")
        else []
    )
    return [
        *travels(job.project, job.name),
        "out/job.sh",
        *(part for part in going_on if (job.folder / part).exists()),
    ]


def same_run(job, now):
    """Raise Stop if a run of other settings or other data lies over there, which this one would go on from."""
    if not now.get("newest") or now.get("mark") == mark(job.folder, job.name):
        return
    try:
        theirs, mine = (
            lasting(tomllib.loads(there(job, f"cat {job.far}/settings.toml")), job.name),
            lasting(job.project.settings, job.name),
        )
        other = (
            ", ".join(sorted(key for key in theirs | mine if theirs.get(key) != mine.get(key)))
            or "data"
        )
    except ValueError as error:
        other = f"settings (its settings.toml: {error})"
    raise Stop(
        f"Another run lies in ~/{job.far} on {job.host}, {int(now['newest']):,} updates long; this one has other {other}. "
        f"To begin anew, move it away: {shlex.join([*short(job), job.host, f'mv {job.far} {job.far}-1'])}"
    )


def over_already(job, now):
    """Raise Stop for a run whose updates are all made and whose model is here: to start it would cost, and train nothing."""
    updates, place = (
        lasting(job.project.settings, job.name).get("updates", 1000),
        home(job.project, job.name),
    )
    here = whole(job.project, job.name, updates) and not of_another_run(job.project, job.name)
    there = (
        now.get("exit") == "0"
        and int(now.get("newest") or 0) >= updates
        and (place / "model" / "config.json").exists()
    )
    if here or there:
        saved = str(place / "checkpoints")
        away = [shlex.join(["mv", saved, f"{saved}-before"])] * here + [
            shlex.join([*short(job), job.host, f"mv {job.far} {job.far}-before"])
        ] * there
        raise Stop(
            f"Nothing was started: this run is whole, its {updates:,} updates are made and its model is in {place / 'model'}. With other settings it is another run. "
            f"To make the same once more, with changed code, say: {' ; '.join(away)}"
        )


def changed(job, now):
    """Return the names of the files that somebody changed over there, and that are others here."""
    theirs = {
        name.removeprefix("edited/"): md5 for name, md5 in now.items() if name.startswith("edited/")
    }
    return [
        name
        for name, md5 in theirs.items()
        if (file := job.folder / name).exists()
        and hashlib.md5(file.read_bytes()).hexdigest() != md5
    ]


def check(job, now, size):
    """Look whether the machine can do it; return its GPU and its Python. Raise Stop for what is to be mended, all of it at once."""
    fit = "import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))"
    if job.python:
        fit = "import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, ['torch', 'transformers', 'accelerate', 'numpy'])))"
    pythons = (
        shlex.quote(job.python)
        if job.python
        else "python3 python3.14 python3.13 python3.12 python3.11"
    )
    found, problems = facts(job, LOOK.format(pythons=pythons, fit=shlex.quote(fit))), []
    by_hand = shlex.join([*short(job), "-t", job.host])
    packages = [
        package
        for tool, package in {
            "rsync": "rsync",
            "flock": "util-linux",
            "setsid": "util-linux",
        }.items()
        if tool not in found
    ]
    if "python" not in found:
        packages += [] if job.python else ["python3-venv"]
        problems.append(
            f"{job.python} over there cannot import torch, transformers, accelerate and numpy."
            if job.python
            else "It has no Python of 3.11 or newer with venv. Where apt has none that new, rent it with Ubuntu 24.04."
        )
    if packages:
        problems.append(
            f"It lacks {', '.join(dict.fromkeys(packages))}. Install that: {by_hand} 'sudo apt-get update && sudo apt-get install -y {' '.join(dict.fromkeys(packages))}'"
            "   (as root, without sudo)"
        )
    if (number := int(found.get("gpus") or 1)) > 1 and not job.cpu:
        print(
            f"\n{job.host} has {number} GPUs, and this uses one of them. All cost money: rent one, or start it there by hand, with torchrun --nproc_per_node {number} {job.name}.py\n"
        )
    if not found.get("gpu") and not job.cpu:
        problems.append(
            "It has no GPU that nvidia-smi lists. Rent one that has, or add --cpu to the same command, knowing that it is slow."
        )
    needed, free = (
        size + (0 if job.python or "venv" in now else VENV),
        int(found.get("free") or 0) * 1024,
    )
    if free < needed:
        problems.append(
            f"Its disk has {free / 1e9:.2f} GB free, and {needed / 1e9:.2f} are needed, before any checkpoint. Make room there, or rent a larger disk."
        )
    if problems:
        raise Stop(f"{job.host} cannot do it yet:\n  " + "\n  ".join(problems))
    return found.get("gpu") or "no GPU, on its CPU", found["python"]


# --- start ---


def lines(job, carried, ssh):
    """Return the commands that copy and start the job, from the project's folder."""
    rsh = ["-e", shlex.join(ssh)] if len(ssh) > 1 or ssh != ["ssh"] else []
    start = f"cd {job.far} && md5sum *.py settings.toml > out/sent; flock -n out/lock rm -f out/pid out/exit out/log.txt && {{ setsid nohup sh out/job.sh < /dev/null > /dev/null 2>&1 & }}"
    return [
        [*ssh, job.host, f"mkdir -p {job.far}/out"],
        ["rsync", "-rtzRL", *rsh, *carried, f"{job.host}:{job.far}/"],
        [*ssh, job.host, start],
    ]


def agreed(job, gpu, script, shown):
    """Show what will be done; return True once a person, or --yes, agrees."""
    fetched = shlex.join(
        [
            "rsync",
            "-rtz",
            *(["-e", shlex.join(short(job))] if job.port else []),
            f"{job.host}:{job.far}/{job.place}/",
            f"{job.place}/",
        ]
    )
    print(f"{job.host}: {gpu}. What will be done, from {job.folder}:\n")
    print("\n".join(f"  {shlex.join(line)}" for line in shown))
    print(f"\nwhere out/job.sh is:\n\n{indent(script, '  ')}")
    print(
        f"Then its log is followed, and at the end what it made is fetched:\n\n  {shlex.join([*short(job), job.host, f'tail -F {job.far}/out/log.txt'])}\n  {fetched}"
    )
    print(
        f"\n{job.host} costs money from when it was rented until its owner's console ends it. Nothing here does that."
    )
    if job.yes:
        return True
    if not sys.stdin.isatty():
        print(
            "\nNothing was started: that takes a yes, typed on a terminal, or --yes.",
            file=sys.stderr,
        )
        return False
    return input("\nStart it? Type yes: ").strip().lower() in ("y", "yes")


def start(job, now):
    """Check, show, ask, copy and start; return False if nobody agreed."""
    same_run(job, now)
    over_already(job, now)
    if edited := changed(job, now):
        bring = [
            "rsync",
            "-tz",
            *(["-e", shlex.join(short(job))] if job.port else []),
            *(f"{job.host}:{job.far}/{name}" for name in edited),
            f"{job.folder}/",
        ]
        raise Stop(
            f"{', '.join(edited)} in ~/{job.far} on {job.host} was changed there after it was sent, and would be overwritten. "
            f"To take that over: {shlex.join(bring)}\nTo give it up: {shlex.join([*short(job), job.host, f'rm {job.far}/out/sent'])}"
        )
    script = job.folder / "out" / "job.sh"
    script.parent.mkdir(exist_ok=True)
    script.touch()
    carried = luggage(job, now)
    size = sum(
        file.stat().st_size
        for part in carried
        for file in [job.folder / part, *(job.folder / part).rglob("*")]
        if file.is_file()
    )
    gpu, python = check(job, now, size)
    setup = "" if job.python else SETUP.format(python=python)
    script.write_text(
        JOB.format(
            name=job.name,
            mark=mark(job.folder, job.name),
            setup=setup,
            python=python if job.python else ".venv/bin/python",
            cpu=" --cpu" * job.cpu,
        )
    )
    if not agreed(job, gpu, script.read_text(), lines(job, carried, short(job))):
        return False
    make, carry, begin = lines(job, carried, ssh(job))
    there(job, make[-1])
    print(f"\nCopying {size / 1e6:,.1f} MB ...", flush=True)
    copy(job, carry, job.host)
    job.begun = True
    there(job, begin[-1])
    print(f"The job runs. You may close this machine; look again with: {again(job)}\n", flush=True)
    return True


# --- follow ---


def again(job, *more):
    typed = [
        *(["--script", job.script] if job.script else []),
        *(["--python", job.python] if job.python else []),
        *(["--cpu"] if job.cpu else []),
    ]
    return shlex.join(["handrail", "rent", "ssh", job.typed, job.dir, *typed, *more])


def tail(job, shown):
    """Show the log from byte `shown` on until the job or the connection ends; return how far it was shown."""
    command = [*ssh(job), job.host, FOLLOW.format(far=job.far, start=shown + 1)]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL
    )
    try:
        while part := process.stdout.read1():
            shown += len(part)
            sys.stdout.buffer.write(part)
            sys.stdout.flush()
    finally:
        process.kill()
        process.wait()
    return shown


def follow(job, now):
    """Show the log until the job is over, through lost connections; return how it stands then."""
    shown, answered, silent = max(0, int(now.get("log", 0)) - 2000), time.monotonic(), False
    while True:
        try:
            shown = tail(job, shown)
            if now.get("state") != "running":
                return now
            now, answered, silent = state(job), time.monotonic(), False
            if now.get("state") == "running":
                print(
                    f"\n[the connection to {job.host} was lost; the job runs, its log goes on here]\n",
                    flush=True,
                )
                time.sleep(0.5)
        except Away as problem:
            if time.monotonic() - answered > PATIENCE:
                raise Stop(
                    f"{problem}\n{job.host} has not answered for {PATIENCE // 60} minutes. Either the network here is away, and the job runs on; or the machine was "
                    f"taken back. Look at your provider's page. Later: {again(job)}"
                )
            if not silent:
                print(
                    f"\n[{job.host} does not answer; the job runs on there. Trying again ...]",
                    flush=True,
                )
            silent = True
            time.sleep(2)


# --- bring home ---


def fetch(job, now):
    """Bring what the job made into the project. What is here already is moved aside, unless it is the beginning of the same run."""
    part = job.folder / "out" / "fetched.part"
    shutil.rmtree(part, ignore_errors=True)
    (part / "checkpoints").mkdir(parents=True)
    rsync = ["rsync", "-rtz", "-e", shlex.join(ssh(job))]
    far = f"{job.host}:{job.far}/{job.place}"
    last = f"/checkpoints/{now.get('newest') or 'none'}"
    inside = ["/metrics.jsonl", "/model/", "/model/**", "/checkpoints/", f"{last}/", f"{last}/**"]
    if now.get("log", "0") != "0":
        copy(
            job,
            [*rsync, f"{job.host}:{job.far}/out/log.txt", str(part.parent / "log.txt")],
            "this machine",
        )
    if now.get("made"):
        copy(
            job,
            [
                *rsync,
                *(f"--include={path}" for path in inside),
                "--exclude=*",
                f"{far}/",
                f"{part}/",
            ],
            "this machine",
        )
    if newest(part / "checkpoints") and now.get("mark"):
        (part / "checkpoints" / "mark").write_text(now["mark"])  # whose they are
        if now["mark"] != mark(job.folder, job.name):
            print(
                "\nThe settings or the data here were changed since that job began. What comes home is of the old ones."
            )
    bring(part, home(job.project, job.name))
    there(job, f"touch {job.far}/out/fetched")


def report(job, now, money):
    """Say how the job ended and what to do; return the exit code."""
    log = job.folder / "out" / "log.txt"
    text = (
        "\n".join(log.read_text(errors="replace").splitlines()[-40:])
        if log.exists() and now.get("log", "0") != "0"
        else ""
    )
    last = {
        "The model is in ": 0,
        "Stopped. ": 130,
    }  # the script's own last word, where its shell was killed and could not leave a code
    code = int(
        now.get("exit")
        or next(
            (
                code
                for line in text.splitlines()[::-1]
                for word, code in last.items()
                if line.startswith(word)
            ),
            -1,
        )
    )
    if code == 0:
        print(
            f"\nIt is over, and well. The model is in {job.folder / job.place / 'model'}, its log in {log}. The walk goes on with it: handrail new {job.project.typed}"
        )
    elif code in (130, 143):
        print(
            f"\nThe job was stopped by somebody. What it had saved is here, in {job.folder / job.place}. To go on with it: {again(job)}"
        )
    else:
        print(
            "\n".join(
                [
                    "\nTHE JOB FAILED. Its last words, from " + str(log),
                    "",
                    *(f"  {line}" for line in text.splitlines()[-15:]),
                    "",
                    cause(job, now, text, code),
                ]
            )
        )
    print(money, flush=True)
    return 0 if code == 0 or job.stop else 130 if code in (130, 143) else 1


def cause(job, now, text, code):
    """Return what the log of a failed job, or its silence, most likely means."""
    ssh = shlex.join([*short(job), job.host])
    for pattern, meaning in MEANS.items():
        if re.search(pattern, text):
            return meaning.format(
                ssh=ssh, tty=shlex.join([*short(job), "-t", job.host]), far=job.far
            )
    if int(now.get("free", 1)) < 1024:
        return MEANS[FULL]
    if code in (-1, 137):
        return "It was ended without a word: most often the machine's own memory (not the GPU's) was too small, or it was restarted. What was saved is whole; the same command goes on."
    return f"handrail has no word for that; the lines above do. The same command starts it again, from its last checkpoint. By hand: {ssh}"


def main(words):
    """Run `handrail rent ssh`; return the exit code."""
    job = read(words)
    about(job, chosen(job.project, job.script))
    money, job.begun, job.over = (
        MONEY.format(host=job.host, ssh=shlex.join([*short(job), job.host])),
        False,
        False,
    )
    try:
        print(f"Asking {job.host} ...", flush=True)
        now = state(job)
        if "script" in now and (now.get("state") == "running" or "fetched" not in now):
            if job.script and job.name != now["script"] and now.get("state") == "running":
                raise Stop(
                    f"{now['script']}.py still runs on {job.host}. To follow it: {again(job)}"
                )
            about(job, now["script"])
            now = state(job)
        if job.stop and now.get("state") == "running":
            there(job, f"kill -TERM -$(cat {job.far}/out/pid)")
        elif job.stop and ("state" not in now or "fetched" in now):
            raise Stop(
                f"Nothing of {job.folder.name} runs on {job.host}, and nothing is to be fetched."
            )
        elif now.get("state") != "running" and ("state" not in now or "fetched" in now):
            if now.get("exit") == "0":
                print(
                    f"The last run there, {now.get('script')}.py, ended well and was fetched. What follows would be the next.\n"
                )
            if not start(job, now):
                return 0 if sys.stdin.isatty() else 2
            now = {"state": "running"}
        job.begun = True
        now = follow(job, now)
        job.over = True
        fetch(job, now)
    except (KeyboardInterrupt, EOFError):
        more = f"Only the following has stopped; the job runs on.\n  look again, or fetch:  {again(job)}\n  end the job:           {again(job, '--stop')}\n"
        more = (
            f"Only the fetching has stopped; the job is over. The same command fetches what it made: {again(job)}\n"
            if job.over
            else more
        )
        print(
            f"\n{more if job.begun else f'Stopped; what runs there already, if anything does, runs on. Look: {again(job)}'}{money}"
        )
        return 130
    except Stop as problem:
        on = "\nIf a job runs there, it runs on." * isinstance(problem, Away)
        raise Stop(f"{problem}{on}\n{money}") from problem
    return report(job, now, money)
