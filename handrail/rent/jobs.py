"""Hugging Face Jobs: the run goes to a machine of theirs, which is gone when the run is over. Its time limit is the cap on the bill.

    handrail rent jobs my-model                       shows what would be started, and what it can cost at most; asks
    handrail rent jobs my-model                       later: how it goes; when it is over, brings the model home
    handrail rent jobs my-model --stop                ends it

The project travels as a folder of the job; checkpoints and the model go to a bucket of yours, by sync.py, at every save.
"""

import argparse
import json
import math
import re
import shutil
import subprocess
import sys
from pathlib import Path

from handrail import budget
from handrail.project import Stop
from handrail.rent import run_mark
from handrail.rent.luggage import CAUSES, bring, chosen, opened, pack, slug

IMAGE = "python:3.12"
TOOLS = "apt-get -qq update && apt-get -qq install -y rsync && "  # what sync.py copies with, into a mounted bucket too
INSIDE = "cp -r /project /run-here && cd /run-here && pip install -q -r requirements.txt && python sync.py /kept {script}.py"
MAYBE = "IT MAY RUN, AND COST. Look: hf jobs ls. End it: hf jobs cancel ID"
OVER = ("COMPLETED", "CANCELED", "ERROR", "DELETED")


def hf(*words, check=True):
    """Run the command `hf`; return what it printed. Raise Stop with its own words, and what to do, if it failed."""
    command = [str(Path(sys.executable).parent / "hf"), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        said = (done.stderr or done.stdout).strip()[-600:]
        mend = (
            "Log in: hf auth login"
            if re.search(r"log ?in|401|token", said, re.I)
            else "Add credit: https://huggingface.co/settings/billing"
            if re.search(r"402|credit|payment", said, re.I)
            else "Is there a network? Is HF_HUB_OFFLINE set?"
        )
        raise Stop(f"`hf {' '.join(map(str, words[:2]))}` failed: {said}\n{mend}")
    return done.stdout.strip()


def live_prices():
    """Return {flavor: dollars an hour} as Hugging Face has them today, or {} where it cannot be asked."""
    from huggingface_hub import HfApi

    per = {"minute": 60, "hour": 1, "second": 3600}
    try:
        return {
            found.name: found.unit_cost_usd * per[found.unit_label]
            for found in HfApi().list_jobs_hardware()
        }
    except Exception:  # no network, no login: then the list in gpus.toml, with its date
        return {}


def flavors():
    """Return {flavor: (GPU, dollars an hour, whose price)}."""
    live = live_prices()
    return {
        gpu["flavor"]: (
            name,
            live.get(gpu["flavor"], gpu["price"]),
            "today" if gpu["flavor"] in live else f"{gpu['source']}, {gpu['read']}",
        )
        for name, gpu in budget.gpus().items()
        if "flavor" in gpu
    }


def limit(hours):
    """Return a time limit in whole half hours: twice the longest estimate, and a quarter of an hour to set up."""
    return math.ceil((2 * hours + 0.25) * 2) / 2


def choose(project, name, flavor, timeout):
    """Return (flavor, hours, GPU, price, whose price): what was named, else the cheapest that fits and twice the time it should take."""
    known = flavors()
    values = project.load().settings.read("", ["--cpu"], name if name in project.settings else "")
    update = budget.rehearse(project, name, values)
    offers = {offer.name: offer for offer in budget.offers(update, update.peak, values.updates)}
    listed = {key: offers[gpu] for key, (gpu, *_) in known.items()}
    good = {key: offer for key, offer in listed.items() if offer.fit == "yes"}
    if flavor is None:
        if not good:
            raise Stop(
                f"An update holds {budget.gb(update.peak)}: too much for each of {', '.join(gpu for gpu, *_ in known.values())}. What to change, or how many GPUs it takes: handrail estimate {project.typed}"
            )
        flavor = min(good, key=lambda key: good[key].hours[1] * known[key][1])
    elif flavor in listed and listed[flavor].fit == "no":
        raise Stop(
            f"An update holds {budget.gb(update.peak)}: too much for --flavor {flavor} ({known[flavor][0]}). {'These are large enough: ' + ', '.join(good) + '. ' if good else ''}What to change: handrail estimate {project.typed}"
        )
    gpu, price, whose = known.get(flavor, (flavor, None, "see `hf jobs hardware`"))
    if timeout is None:
        if flavor not in listed:
            raise Stop(
                f"handrail does not know {flavor}: say how long it may run at most, --timeout 2h"
            )
        timeout = limit(listed[flavor].hours[1])
    return flavor, timeout, gpu, price, whose


def hours(text):
    """Return hours, in whole minutes, of "90m", "2h" or "1d"; five minutes at least, which setting up takes. A number alone could be either."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhd])", text)
    minutes = math.ceil(float(found[1]) * {"m": 1, "h": 60, "d": 1440}[found[2]]) if found else 0
    if not 5 <= minutes <= 30 * 1440:
        raise argparse.ArgumentTypeError(
            f"{text}: write 90m, 2h or 1d; setting up alone takes some 5m, and more than 30d is a slip"
        )
    return minutes / 60


def command(project, name, flavor, timeout, folder, bucket, secrets):
    """Return the words of `hf jobs run`: no secret stands in them, only the name of a variable that holds one."""
    return [
        "jobs",
        "run",
        "--flavor",
        flavor,
        "--timeout",
        f"{round(timeout * 60)}m",
        "--name",
        slug(project),
        "-v",
        f"{folder}:/project",
        "-v",
        f"hf://buckets/{bucket}:/kept",
        *(["--secrets", "HF_TOKEN"] if secrets else []),
        IMAGE,
        "bash",
        "-c",
        TOOLS + INSIDE.format(script=name),
    ]


def who():
    """Return the name of the account that is logged in here; "YOU" where none is, for the lines that are only shown."""
    found = hf("auth", "whoami", "--format", "json", check=False)
    try:
        return json.loads(found)["user"]
    except (ValueError, KeyError, TypeError):
        return "YOU"


def cost(note):
    """Return what a job costs an hour, as a person says it."""
    return (
        f"${note['price']:.2f} an hour"
        if note["price"]
        else f"what {note.get('flavor', 'its machine')} costs an hour (`hf jobs hardware`)"
    )


def home(project, new, name, whose):
    """Bring what sync.py kept of a run, `whose` mark is this, into the project: checkpoints, metrics, the model; no checkpoint that was cut off on its way, and so has no note."""
    if not new.exists():
        return
    for saved in (new / "checkpoints").glob("*"):
        if not new.with_name(f"{new.name}-whole").joinpath(saved.name).exists():
            shutil.rmtree(saved)
    if any((new / "checkpoints").glob("0*")):
        (new / "checkpoints" / "mark").write_text(whose)
    for saved in sorted((new / "checkpoints").glob("0*")):  # each with what was logged until then
        (saved / "metrics.jsonl").replace(new / "metrics.jsonl")
        (saved / "log.txt").unlink(missing_ok=True)
    bring(new, run_mark.home(project, name))


def look(project, note, stop):
    """Say how the job goes; when it is over, bring home what it made. Return the exit code."""
    refused = ""
    try:
        hf("jobs", "cancel", note["job"]) if stop else None
    except Stop as error:  # one that is over cannot be ended, and is brought home
        refused = f"It was asked to end, and is not over: {error}"
    try:
        found = json.loads(hf("jobs", "inspect", note["job"], "--format", "json"))
        status = (found[0] if isinstance(found, list) else found)["status"]["stage"]
    except (Stop, ValueError, LookupError, TypeError) as error:
        raise Stop(
            f"How the job {note['job']} goes cannot be seen: {error}\n{MAYBE}\nWhat it kept so far lies in the bucket {note['bucket']}. "
            f"If the job is gone for good: hf buckets sync hf://buckets/{note['bucket']} kept; rm {project.out / 'job.json'}"
        ) from error
    if status not in OVER:
        print(refused or "It was asked to end; look again in a minute.") if stop else None
        print(
            f"The job {note['job']} is {status.lower()}. It costs {cost(note)}, and ends by itself after {note['hours']:g} h.\n"
            f"  its log:   hf jobs logs -f {note['job']}\n  end it:    handrail rent jobs {project.typed} --stop"
        )
        return int(bool(refused))
    print(
        f"The job {note['job']} is over ({status.lower()}); its machine is gone and costs nothing more. Bringing home what it made ..."
    )
    log = project.out / "job.txt"
    log.write_text(hf("jobs", "logs", note["job"], check=False))
    kept, name = project.out / "kept", note["script"]
    hf("buckets", "sync", f"hf://buckets/{note['bucket']}", kept)
    came = (kept / name / "model").exists()
    home(project, kept / name, name, note["bucket"][-6:])
    shutil.rmtree(kept, ignore_errors=True)
    (project.out / "job.json").unlink()
    if status != "COMPLETED":
        text = "\n".join(log.read_text().splitlines()[-40:])
        meaning = next(
            (meaning for pattern, meaning in CAUSES.items() if re.search(pattern, text)),
            f"If its time was up ({note['hours']:g} h), give it more: --timeout",
        )
        print(
            f"It did not end well. Its last words, all of them in {log}:\n\n"
            + "\n".join(text.splitlines()[-20:] or ["(none came)"])
            + f"\n\n{meaning}\nStarted again, it goes on from its last checkpoint: handrail rent jobs {project.typed}. The bucket {note['bucket']} may cost: hf buckets delete {note['bucket']}"
        )
        return 1
    if not came:
        print(
            f"It says that it ended well, and no model lies in the bucket {note['bucket']}. Its last words, all of them in {log}:\n\n"
            + "\n".join(log.read_text().splitlines()[-20:])
            + f"\n\nWhat it kept is here; started again, it goes on from its last checkpoint: handrail rent jobs {project.typed}"
        )
        return 1
    print(
        f"The model is in {run_mark.home(project, name) / 'model'}. The walk goes on with it: handrail new {project.typed}. The bucket keeps a copy, which may cost: hf buckets delete {note['bucket']}"
    )
    return 0


def main(words):
    """Run `handrail rent jobs`; return the exit code."""
    p = argparse.ArgumentParser("handrail rent jobs", description=__doc__.split("\n")[0])
    p.add_argument(
        "folder",
        nargs="?",
        default="." if Path("settings.toml").exists() else "first-model",
        help="the project",
    )
    p.add_argument("--script", help="pretrain or finetune")
    p.add_argument(
        "--flavor",
        help="of machine; default: the cheapest that fits. `hf jobs hardware` lists them",
    )
    p.add_argument(
        "--timeout",
        type=hours,
        help="the longest it may run, such as 90m or 2h: the cap on the bill",
    )
    p.add_argument(
        "--secrets",
        action="store_true",
        help="hand over HF_TOKEN, by name, for a model or data that are not public",
    )
    p.add_argument("--stop", action="store_true", help="end the job that runs")
    options = p.parse_args(words)
    project = opened(options.folder)
    note = project.out / "job.json"
    if note.exists():
        if options.flavor or options.timeout:
            print("(--flavor and --timeout are for the next job: one is known here already)")
        try:
            job = json.loads(note.read_text())
            [job[name] for name in ("job", "script", "bucket", "hours", "price")]
        except (ValueError, LookupError, TypeError) as error:
            raise Stop(
                f"{note} is not whole, so which job it was is not known here. {MAYBE}\nThen: rm {note}"
            ) from error
        return look(project, job, options.stop)
    if options.stop:
        raise Stop(
            f"No job of {project.folder} is known here. `hf jobs ls` lists all of yours; `hf jobs cancel ID` ends one."
        )
    name = chosen(project, options.script)
    if options.flavor and options.flavor.startswith("cpu"):
        raise Stop(
            f"--flavor {options.flavor} has no GPU. `hf jobs hardware` lists those that have one."
        )
    flavor, timeout, gpu, price, whose = choose(project, name, options.flavor, options.timeout)
    folder = project.out / "job"
    shutil.rmtree(folder, ignore_errors=True)
    pack(project, name, folder)
    bucket = f"{who()}/{slug(project)}-{run_mark.mark(folder, name)}"
    run = command(project, name, flavor, timeout, folder, bucket, options.secrets)
    shown = [f"'{word}'" if " " in word else word for word in run]
    print(
        f"This would be started, on one {gpu}:\n\n  hf buckets create {bucket}\n  hf {' '.join(shown)}\n\nThe same, as `hf` understands it:\n"
    )
    print(hf(*run[:2], "--dry-run", *run[2:]))
    cap = (
        f"${timeout * price:.2f} ({timeout:g} h at ${price:.2f} an hour; {whose})"
        if price
        else f"{timeout:g} h at the price of {flavor}: `hf jobs hardware`"
    )
    if many := re.search(r"x([2-9])$", flavor):
        print(f"\n{flavor} has {many[1]} GPUs. All cost, and this uses one of them.")
    print(
        f"\nThe most that it can cost: {cap}. It is billed by the minute, and over when the run is over."
    )
    if not sys.stdin.isatty():
        print("Nothing was started: a bill begins only when a person types yes, on a terminal.")
        return 0
    if input("Start it, and pay? Type yes: ").strip().lower() != "yes":
        print("Nothing was started.")
        return 0
    if bucket.startswith("YOU/"):
        raise Stop("Nobody is logged in here. First: hf auth login")
    start(
        project,
        run,
        {"script": name, "bucket": bucket, "hours": timeout, "price": price, "flavor": flavor},
    )
    return 0


def start(project, run, about):
    """Start the job, which costs from now on, and note which one it is; raise Stop, with how to look for it, if that is not sure."""
    note, bucket = project.out / "job.json", about["bucket"]
    hf("buckets", "create", bucket, "--exist-ok")
    try:
        said = hf(*run[:2], "-d", *run[2:])
    except KeyboardInterrupt as error:
        raise Stop(f"Stopped while the job was being started. {MAYBE}") from error
    except Stop as error:
        refused = "hf auth login" in str(error) or "Add credit" in str(
            error
        )  # then there is no job; else only the answer may be missing
        raise error if refused else Stop(f"{error}\n{MAYBE}")
    if not (found := re.findall(r"[0-9a-f]{24}", said)):
        raise Stop(f"`hf jobs run` named no job: {said[-300:]}\n{MAYBE}")
    job = found[0]
    try:
        part = note.with_suffix(".part")
        part.write_text(json.dumps(about | {"job": job}))
        part.rename(note)
    except OSError as error:
        raise Stop(
            f"THE JOB {job} RUNS, AND COSTS, and could not be noted here ({error}). Its log: hf jobs logs -f {job}. End it: hf jobs cancel {job}. What it makes goes to the bucket {bucket}."
        ) from error
    print(
        f"Started: job {job}. You may close this machine.\n  its log:              hf jobs logs -f {job}\n  how it goes, later:   handrail rent jobs {project.typed}"
    )
