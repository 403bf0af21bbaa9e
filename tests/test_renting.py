"""Renting without a card: what would be started is right, nothing is started without a person, and
the notebook really trains.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import nbformat
import pytest
from conftest import HOUSE, decide, handrail, metrics, script
from nbclient import NotebookClient
from transformers import AutoModelForCausalLM

from handrail.cloud.bundle import Run
from handrail.cloud.jobs import INSIDE, command
from handrail.cost.jobs import price_of_job
from handrail.project.project import Project, Stop


@pytest.fixture
def ready(tiny, tmp_path):
    """A project before a run of a dozen updates."""
    folder = shutil.copytree(tiny, tmp_path / "project")
    decide(folder, updates=12)
    return folder


def test_a_job_is_shown_and_not_started(ready):
    """A bill begins only with a person's yes: without a terminal the dry run and the cap are shown,
    and nothing is started.
    """
    (ready / "sync.py").unlink()  # added with the first job
    words = ["rent", "jobs", ready, "--hours", "1.5", "--flavor", "t4-small"]
    done = handrail(*words, env=os.environ | {"HF_TOKEN": "hf_secret"})
    assert done.returncode == 2 and "Nothing was started" in done.stderr, done.stdout + done.stderr
    assert "(dry run) Job not submitted." in done.stdout
    assert re.search(r"most that it can cost: \$0\.60, 1\.5 h at \$0\.40 an hour", done.stdout)
    assert "hf_secret" not in done.stdout + done.stderr
    assert (ready / "out" / "bundle" / "sync.py").exists() and not (ready / "sync.py").exists()


class Hub(BaseHTTPRequestHandler):
    """Answers as Hugging Face does to somebody who is logged in and has one job."""

    def do_GET(self):
        answer = {"type": "user", "name": "me", "orgs": [], "auth": {}}
        if self.path.startswith("/api/jobs/me?"):
            assert "label=name%3Dproject-" in self.path and "stage=RUNNING" in self.path
            job = {"id": "68780d00bbe36d38803f645f", "createdAt": "2026-11-30T00:00:00.000Z"}
            job |= {"owner": {"id": "1", "name": "me", "type": "user"}, "flavor": "t4-small"}
            answer = [job | {"status": {"stage": "RUNNING", "message": None}}]
        body = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *words):
        pass


def test_a_job_is_not_started_twice(ready, tmp_path):
    """Two jobs of one run would overwrite each other's checkpoints, and both cost: one that is
    running is named, with how to follow it, end it, and bring it home. The real client asks.
    """
    with ThreadingHTTPServer(("127.0.0.1", 0), Hub) as server:
        Thread(target=server.serve_forever).start()
        hub = {"HF_ENDPOINT": f"http://127.0.0.1:{server.server_port}", "HF_HUB_OFFLINE": "0"}
        env = os.environ | hub | {"HF_TOKEN": "hf_secret", "HF_HOME": str(tmp_path / "hf")}
        done = handrail("rent", "jobs", ready, env=env)
        server.shutdown()
    assert done.returncode == 0 and "The job 68780d00bbe36d38803f645f is running" in done.stdout
    assert "python sync.py hf://buckets/me/project-" in done.stdout and not done.stderr
    assert "This would be started" not in done.stdout


def test_a_secret_goes_by_its_name(ready):
    """A token in a command line ends up in histories and logs: only the name of the variable is
    there.
    """
    words = command(Run(ready, None), "l4x1", 2.0, "me/it", secrets=True)
    assert words[words.index("--secrets") + 1] == "HF_TOKEN"
    assert words[words.index("--timeout") + 1] == "120m"


def test_what_a_job_runs_trains(project, tmp_path):
    """The folder that travels is all that the run needs: in it, alone, the command of the job
    trains and leaves the model in the mounted bucket; at home, the command that was shown brings it
    back, and the walk judges it and continues.
    """
    (tmp_path / "kept").mkdir()
    inside = INSIDE.read_text()
    for there, here in {
        "apt-get": "true",  # rsync is here
        "/project": str(Run(project, None).pack()),
        "/run-here": str(tmp_path / "run"),
        "/kept": str(tmp_path / "kept"),
        "pip install": f"{sys.executable} -m pip install",
        "python sync": f"{sys.executable} sync",
        "--nproc_per_node gpu": "--nproc_per_node 1",
        '"$0"': '"$0" --cpu',
    }.items():
        assert there in inside
        inside = inside.replace(there, here)
    done = subprocess.run(
        ["bash", "-c", inside, "pretrain.py"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    Project(project).add(["sync.py"])
    done = script(project, "sync.py", tmp_path / "kept", "pretrain.py")
    assert "It is finished: nothing is trained." in done.stdout, done.stdout + done.stderr
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
def test_skypilot_reads_the_task(ready, skypilot):
    """A misspelt field of sky.yaml would be found only after the machine was paid for: SkyPilot's
    own parser reads it, and sees that the bill ends.
    """
    done = handrail("rent", "sky", ready)
    assert done.returncode == 0, done.stderr
    (task,) = (ready / "out").glob("*.yaml")
    code = (
        "import sky, sys, json; task = sky.Task.from_yaml(sys.argv[1]);"
        "found = list(task.resources)[0];"
        "about = [str(found.accelerators), str(found.autostop_config)];"
        "from sky.data.storage_utils import get_excluded_files as ignored;"
        "print(json.dumps([task.name, *about, task.run, task.workdir, ignored(task.workdir)]))"
    )
    done = subprocess.run([skypilot, "-c", code, task], capture_output=True, text=True, cwd=ready)
    assert done.returncode == 0, done.stderr[-2000:]
    name, gpu, autostop, run, workdir, ignored = json.loads(done.stdout.splitlines()[-1])
    assert name == task.stem and "L4" in gpu and "down=True" in autostop and "60" in autostop
    assert (
        "pretrain.py" in run
        and not ignored
        and (ready / workdir / "out" / "tokens" / "train.bin").exists()
    )


def test_the_task_of_skypilot_is_filled_in(ready):
    """What LONG=1 has read by SkyPilot itself has no word of the template left."""
    done = handrail("rent", "sky", ready)
    (task,) = (ready / "out").glob("*.yaml")
    assert f"sky launch -c {task.stem} out/{task.name}" in done.stdout, done.stdout + done.stderr
    text = task.read_text()
    assert (
        f"name: {task.stem}" in text
        and "NODE pretrain.py" in text
        and "workdir: out/bundle" in text
    )
    assert "${" not in text


def test_the_notebook_trains_and_gives_the_model_back(ready, tmp_path):
    """A free machine without this house on it: the notebook, run cell by cell, ends with an archive
    of the trained model, which at home replaces nothing that is newer.
    """
    decide(ready, updates=6)
    done = handrail("rent", "notebook", ready, "--cpu")
    assert done.returncode == 0, done.stderr
    (notebook,) = (ready / "out").glob("*.ipynb")
    service = tmp_path / "service"
    service.mkdir()
    shutil.move(notebook.with_suffix(".tar.gz"), service)
    where = {"metadata": {"path": str(service)}}
    NotebookClient(nbformat.read(notebook, 4), timeout=300, resources=where).execute()
    (ready / "out" / "metrics.jsonl").write_text("newer")
    os.utime(ready / "out" / "metrics.jsonl", (2e9, 2e9))
    back = service / f"{notebook.stem}-back.tar.gz"
    words = ["tar", "--keep-newer-files", "-xzf", back]  # as the notebook's last cell says
    assert shlex.join(words[:3]) in notebook.read_text()
    subprocess.run(words, cwd=ready, check=True)
    assert (ready / "out" / "model" / "model.safetensors").exists()
    assert (ready / "out" / "metrics.jsonl").read_text() == "newer"


def test_renting_what_is_not_there(tmp_path, ready):
    """A newcomer's slip gets a sentence and exit 2: no project, no such way, no such script."""
    for words in (
        ["jobs", tmp_path / "none"],
        ["plane"],
        ["jobs", ready, "--hours", "0"],
        ["jobs", ready, "--script", "dpo"],
        ["jobs", ready, "--script", "plane"],
        ["ssh"],
    ):
        done = handrail("rent", *words, cwd=tmp_path)
        assert done.returncode == 2 and "Traceback" not in done.stderr and done.stderr.strip(), (
            words,
            done,
        )
    assert "handrail rent notebook" in handrail("rent").stdout


def test_a_machine_that_is_too_small_is_not_offered(ready):
    """A job that cannot fit would cost money and end with an error: --flavor is checked, and so is
    one that has no GPU, or is not known here.
    """
    run = Run(ready, None)
    with pytest.raises(Stop, match="too much for cpu-basic. Large enough: t4-small"):
        price_of_job(run.project, run.script, run.values, "cpu-basic")
    price = price_of_job(run.project, run.script, run.values, "a100-large", 2)[-1]
    assert price == "2 h of a100-large (`hf jobs hardware` has its price)"
    done = handrail("rent", "jobs", ready, "--flavor", "a100-large")
    assert done.returncode == 2 and "--hours 2 limits the bill" in done.stderr, done.stderr
    decide(ready, batch=8192, context=1024)
    run = Run(ready, None)
    with pytest.raises(Stop, match="too much for t4-small. Large enough: "):
        price_of_job(run.project, run.script, run.values, "t4-small")
