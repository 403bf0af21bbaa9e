"""Hugging Face Jobs: the run goes to a machine of theirs that is gone when the run is over.

The project travels as a folder of the job; sync.py sends each checkpoint, and at the end the model,
to a bucket of yours, and at home it fetches them. The job's time limit caps the bill.
"""

import math
import shlex
import subprocess
import sys
from pathlib import Path

import click

from handrail.cloud.bundle import Run, agree, folder_argument, script_option, words
from handrail.project.project import GUIDES, Stop

INSIDE = Path(__file__).with_name("hf_job.sh")


def hf(*typed, check=True):
    """Run the command `hf`; return what it printed, "" if it failed and that is no matter."""
    command = [Path(sys.executable).with_name("hf"), *typed]
    done = subprocess.run(command, capture_output=True, text=True)
    if check and done.returncode:
        raise Stop(words("hf failed", command=" ".join(typed[:2]), said=done.stderr or done.stdout))
    return "" if done.returncode else done.stdout.strip()


def command(run, flavor, hours, bucket, secrets):
    """Return the words of `hf jobs run`; a secret is in them by its name only."""
    limits = ["--flavor", flavor, "--timeout", f"{math.ceil(hours * 60)}m", "--name", run.name]
    volumes = [f"{run.project.out / 'bundle'}:/project", f"hf://buckets/{bucket}:/kept"]
    secret = ["--secrets", "HF_TOKEN"] if secrets else []
    inside = ["python:3.12", "bash", "-c", INSIDE.read_text(), f"{run.script}.py"]
    return ["jobs", "run", *limits, "-v", volumes[0], "-v", volumes[1], *secret, *inside]


@click.command()
@folder_argument
@script_option
@click.option("--flavor", help="Of machine (hf jobs hardware). Default: the cheapest that fits.")
@click.option("--hours", type=click.FloatRange(0.1, 720), help="Its time limit: caps the bill.")
@click.option("--secrets", is_flag=True, help="Hand over HF_TOKEN, for what is not public.")
def jobs(folder, script, flavor, hours, secrets):
    """Train as a job of Hugging Face, which ends by itself."""
    from handrail.cost.jobs import price_of_job  # slow to import

    run = Run(folder, script)
    user = hf("auth", "whoami", "-q", check=False)  # without one, the job is only shown
    bucket = f"{user or 'YOU'}/{run.name}"
    sync = run.project.script(f"sync.py hf://buckets/{bucket} {run.script}.py")
    about = {"bucket": bucket, "folder": run.project.typed, "sync": sync}
    if user and (running := hf("jobs", "ls", "--name", run.name, "-q")):
        print(words("running", job=running.split()[0], **about))
        return
    flavor, hours, price = price_of_job(run.project, run.script, run.values, flavor, hours)
    run.pack()
    typed = command(run, flavor, hours, bucket, secrets)
    dry, shown = hf(*typed[:2], "--dry-run", *typed[2:]), shlex.join(["hf", *typed])
    print(words("job", dry=dry, command=shown, price=price, **about))
    agree()
    print(words("perhaps"), flush=True)
    hf("buckets", "create", bucket, "--exist-ok")
    run.project.add(["sync.py"])
    run.project.commit(["sync.py", *GUIDES], "sync.py: checkpoints on another machine too")
    print(words("running", job=hf(*typed[:2], "-d", "-q", *typed[2:]), **about))
