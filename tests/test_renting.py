"""Renting without a card: what would be started is right, nothing is started without a person, and
the notebook really trains.
"""

import json
import os
import re
import shutil
import subprocess
import sys

import nbformat
import pytest
from conftest import HOUSE, decide, handrail, metrics
from nbclient import NotebookClient
from transformers import AutoModelForCausalLM

from handrail.rent import jobs, run_mark


def test_a_job_is_shown_and_not_started(project):
    """A bill begins only with a person's yes: without a terminal the dry run and the cap are shown,
    and nothing is started.
    """
    done = handrail(
        "rent",
        "jobs",
        project,
        "--timeout",
        "90m",
        "--flavor",
        "t4-small",
        env=os.environ | {"HF_TOKEN": "hf_secret"},
    )
    assert done.returncode == 0, done.stderr
    assert "(dry run) Job not submitted." in done.stdout and "Nothing was started" in done.stdout
    assert re.search(r"most that it can cost: \$0\.60 \(1\.5 h at \$0\.40", done.stdout)
    assert "hf_secret" not in done.stdout + done.stderr
    assert not (project / "out" / "job.json").exists()


def test_a_secret_goes_by_its_name(project):
    """A token in a command line ends up in histories and logs: only the name of the variable is
    there.
    """
    words = jobs.command(
        jobs.opened(project), "pretrain", "l4x1", 2.0, "FOLDER", "me/it", secrets=True
    )
    assert (
        words[words.index("--secrets") + 1] == "HF_TOKEN"
        and words[words.index("--timeout") + 1] == "120m"
    )


def test_what_a_job_runs_trains(project, tmp_path):
    """The folder that travels is all that the run needs: in it, alone, the command of the job
    trains and leaves the model in the mounted bucket; at home, the walk judges it and continues.
    """
    jobs.pack(jobs.opened(project), "pretrain", tmp_path / "travels")
    kept = tmp_path / "kept"
    kept.mkdir()
    inside = (
        jobs.INSIDE.format(script="pretrain")
        .replace("/project", str(tmp_path / "travels"))
        .replace("/run-here", str(tmp_path / "run"))
        .replace("/kept", str(kept))
    )
    inside = (
        inside.replace("pip install", f"{sys.executable} -m pip install").replace(
            "python sync", f"{sys.executable} sync"
        )
        + " --cpu"
    )
    done = subprocess.run(["bash", "-c", inside], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    jobs.home(
        jobs.opened(project), kept / "pretrain", "pretrain", run_mark.mark(project, "pretrain")
    )  # as it comes home from the bucket
    AutoModelForCausalLM.from_pretrained(project / "out" / "model")
    assert metrics(project)[-1]["step"] == 12 and list(project.glob("out/checkpoints/00000012"))
    (project / "out" / "steps" / "pretrain.json").unlink()  # no run was made here
    trained = (project / "out" / "model" / "model.safetensors").read_bytes()
    done = handrail("pretrain", project, "--cpu", "--yes")
    assert "This run is finished" in done.stdout, done.stdout + done.stderr
    assert (project / "out" / "model" / "model.safetensors").read_bytes() == trained


@pytest.fixture(scope="session")
def skypilot():
    """The python of an environment with SkyPilot, which is a separate tool and never
    imported by it.
    """
    home = HOUSE / ".venv" / "sky"
    if not (home / "ready").exists():
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run(
            [home / "bin" / "pip", "install", "-q", "--no-compile", "skypilot"], check=True
        )
        (home / "ready").touch()
    return home / "bin" / "python"


@pytest.mark.long
def test_skypilot_reads_the_task(project, skypilot):
    """A misspelt field of sky.yaml would be found only after the machine was paid for: SkyPilot's
    own parser reads it, and sees that the bill ends.
    """
    done = handrail("rent", "sky", project, "--gpu", "L4")
    assert done.returncode == 0, done.stderr
    code = (
        "import sky, sys, json; task = sky.Task.from_yaml(sys.argv[1]);"
        "found = list(task.resources)[0];"
        "about = [str(found.accelerators), str(found.autostop_config)];"
        "print(json.dumps([task.name, *about, task.run, task.workdir]))"
    )
    done = subprocess.run(
        [skypilot, "-c", code, project / "sky.yaml"], capture_output=True, text=True, cwd=project
    )
    assert done.returncode == 0, done.stderr[-2000:]
    name, gpu, autostop, run, workdir = json.loads(done.stdout.splitlines()[-1])
    assert "L4" in gpu and "pretrain.py" in run and "down=True" in autostop and "60" in autostop
    ignored = (project / ".skyignore").read_text()
    assert ".git" in ignored and "out/tokens" not in ignored and "village.jsonl" in ignored


def test_the_notebook_trains_and_gives_the_model_back(project, tmp_path):
    """A free machine without this house on it: the notebook, run cell by cell, ends with a zip that
    holds the trained model.
    """
    here = tmp_path / "mine"
    shutil.copytree(project, here, ignore=shutil.ignore_patterns("checkpoints", "model"))
    settings = here / "settings.toml"
    settings.write_text(re.sub(r"^updates = .*$", "updates = 6", settings.read_text(), flags=re.M))
    done = handrail("rent", "notebook", here, "--cpu")
    assert done.returncode == 0, done.stderr
    service = tmp_path / "service"
    service.mkdir()
    shutil.move(tmp_path / "mine-rent.zip", service)
    NotebookClient(
        nbformat.read(tmp_path / "mine.ipynb", 4),
        timeout=300,
        resources={"metadata": {"path": str(service)}},
    ).execute()
    shutil.unpack_archive(service / "mine-back.zip", tmp_path / "back")
    assert (tmp_path / "back" / "out" / "model" / "model.safetensors").exists()


def test_renting_what_is_not_there(tmp_path, project):
    """A newcomer's slip gets a sentence and exit 2: no project, no such way, no job to stop."""
    for words in (
        ["jobs", tmp_path / "none"],
        ["plane"],
        ["jobs", project, "--stop"],
        ["jobs", project, "--script", "dpo"],
    ):
        done = handrail("rent", *words, cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.strip(), (
            words,
            done,
        )
    assert "handrail rent notebook" in handrail("rent").stdout


def test_a_job_that_cannot_fit_and_a_note_that_is_torn(project):
    """A machine that is too small is not offered, whatever was typed; a note of a job that cannot
    be read does not hide that one may run.
    """
    decide(project, batch=8192, context=1024)
    done = handrail("rent", "jobs", project, "--flavor", "t4-small", "--timeout", "2h")
    assert (
        done.returncode == 2
        and "too much for --flavor t4-small" in done.stderr
        and "most that it can cost" not in done.stdout
    ), done
    (project / "out" / "job.json").write_text('{"job": "12')
    done = handrail("rent", "jobs", project)
    assert (
        done.returncode == 2
        and "IT MAY RUN, AND COST" in done.stderr
        and "Traceback" not in done.stderr
    ), done
