"""A rented machine, without paying for one: a real OpenSSH server on the loopback address, and runs
that lose their machine.
"""

import contextlib
import getpass
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import BIN, decide, handrail, made, metrics, once, script

from handrail.cloud.bundle import Run
from handrail.cloud.ssh import JOB, Machine
from handrail.project.project import Stop

SSHD = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin:/usr/local/sbin")
SERVER = """Port {port}
ListenAddress 127.0.0.1
HostKey {folder}/host
AuthorizedKeysFile {folder}/me.pub
ForceCommand {folder}/shell
UsePAM no
StrictModes no
PasswordAuthentication no
KbdInteractiveAuthentication no
PidFile none
"""
CLIENT = """Host *
  Port {port}
  IdentityFile {folder}/me
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known
  GlobalKnownHostsFile /dev/null
"""
PROGRAMS = {  # a shell over there, with a home and tools of its own; this machine's ssh
    "shell": """#!/bin/sh
export HOME={folder}/home PATH={folder}/bin OMP_NUM_THREADS=1
cd "$HOME" && exec sh -c "$SSH_ORIGINAL_COMMAND"
""",
    "bin/python3": """#!/bin/sh
exec {python} "$@"
""",
    "here/ssh": """#!/bin/sh
exec {ssh} -F {folder}/client "$@"
""",
}


@pytest.fixture(scope="session")
def whole(tiny, tmp_path_factory):
    """The same project after a run in peace: what every run that was disturbed has to end as."""
    return once(
        tmp_path_factory,
        "tiny-whole",
        lambda folder: script(shutil.copytree(tiny, folder), "pretrain.py"),
    )[0]


@pytest.fixture
def machines(tiny, tmp_path):
    """Two machines, A and B: copies of the project that share nothing."""
    return [shutil.copytree(tiny, tmp_path / name / "first-model") for name in "AB"]


@pytest.fixture
def far(tmp_path, monkeypatch):
    """A machine over there: sshd with its own keys, a home of its own, and in its PATH all of this
    machine's tools but nvidia-smi. This machine's ssh knows it.
    """
    if not (SSHD and shutil.which("rsync") and shutil.which("ssh-keygen")):
        pytest.fail(
            "These tests log into a real OpenSSH server and copy with rsync. "
            "On this machine: sudo apt-get install -y openssh-server rsync"
        )
    folder = tmp_path / "far"
    for name in ("home", "bin", "here"):
        (folder / name).mkdir(parents=True)
    for tool in [*Path("/bin").iterdir(), *Path("/usr/bin").iterdir()]:
        link = folder / "bin" / tool.name
        if tool.name != "nvidia-smi" and not tool.name.startswith("python3") and not link.exists():
            link.symlink_to(tool)
    for name, text in PROGRAMS.items():
        text = text.format(folder=folder, python=sys.executable, ssh=shutil.which("ssh"))
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for key in ("host", "me", "other"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key]
        subprocess.run(command, check=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "server").write_text(SERVER.format(folder=folder, port=port))
    (folder / "client").write_text(CLIENT.format(folder=folder, port=port))
    monkeypatch.setenv("PATH", f"{folder / 'here'}:{os.environ['PATH']}")
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # as its service does; sshd wants it
    server = psutil.Popen([SSHD, "-D", "-f", folder / "server", "-E", folder / "sshd.txt"])
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10)
    user = getpass.getuser()
    yield SimpleNamespace(
        folder=folder,
        home=folder / "home",
        port=port,
        server=server,
        user=user,
        host=f"{user}@127.0.0.1:{port}",
    )
    for file in folder.glob("home/handrail/*/job/pid"):
        end(int(file.read_text()))  # of a test that failed
    cut(server)
    server.kill()
    server.wait()


def end(pid):
    """Kill a job there: its shell, and what the shell has started."""
    with contextlib.suppress(psutil.NoSuchProcess):  # gone by itself
        job = psutil.Process(pid)
        for process in [job, *job.children(recursive=True)]:
            process.kill()


def cut(server):
    """Cut the connections of sshd, and nothing that they started: pyenv, killed in somebody's
    .bashrc, leaves a lock for which every later shell waits.
    """
    for process in server.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if process.name().startswith("sshd"):
                process.kill()


def until(ready, seconds=180):
    """Wait until ready() says so."""
    end = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


def rent(far, project, *words):
    """Run `handrail rent ssh` to its end."""
    here = ["--cpu", "--python", sys.executable, "--yes"]
    return handrail("rent", "ssh", far.host, project, *(words or here))


def begin(far, project):
    """Start `handrail rent ssh` in the background, its output going to a file; return (process, how
    to read the file).
    """
    said = far.folder / f"said-{len(list(far.folder.glob('said-*')))}"
    words = ["rent", "ssh", far.host, project, "--cpu", "--python", sys.executable, "--yes"]
    # a suite that runs in the background ignores Ctrl-C
    command = ["env", "--default-signal=INT", BIN / "handrail", *words]
    with open(said, "w") as file:
        how = {"stdout": file, "stderr": subprocess.STDOUT, "stdin": subprocess.DEVNULL}
        process = subprocess.Popen(list(map(str, command)), **how)
    return process, said.read_text


def weights(folder):
    """Return a hash of saved weights: equal only when every bit is."""
    return hashlib.sha256((folder / "model" / "model.safetensors").read_bytes()).hexdigest()


def saved(folder):
    return [
        int(path.name)
        for path in sorted(folder.glob("out/checkpoints/[0-9]*"))
        if path.name.isdigit()
    ]


# --- handrail rent ssh ---


def wrong_key(far):
    (far.folder / "me").write_bytes((far.folder / "other").read_bytes())


def another_machine(far):
    key = (far.folder / "other.pub").read_text()
    (far.folder / "known").write_text(f"[127.0.0.1]:{far.port} {key}")


UNREACHABLE = {  # how it comes about, and what ssh says of it
    "unknown host": (
        lambda far: (far.folder / "known").write_text(""),
        "Host key verification failed",
    ),
    "another machine at its address": (another_machine, "IDENTIFICATION HAS CHANGED"),
    "wrong key": (wrong_key, "Permission denied"),
    "switched off": (lambda far: far.server.kill(), "Connection refused"),
}


@pytest.mark.parametrize("fault", UNREACHABLE)
def test_a_machine_that_cannot_be_reached_is_a_sentence(far, machines, fault):
    """Somebody who rents for the first time gets ssh's own words, the command to try by hand, and
    how to trust a machine, never a traceback.
    """
    come, said = UNREACHABLE[fault]
    run = Run(machines[0], None)
    come(far)
    with pytest.raises(Stop, match=f"cannot be reached: (.|\n)*{said}") as stop:
        Machine(far.host, run).look("", "--cpu")
    assert f"ssh -p {far.port} {far.user}@127.0.0.1" in str(stop.value)
    assert "fingerprint" in str(stop.value) and not (far.home / "handrail").exists()


def test_what_a_machine_lacks_is_named_before_it_costs(far, machines, monkeypatch):
    """No GPU, no Python, no rsync: named before anything is copied; and nothing starts without a
    yes, but all of it is shown.
    """
    machine = Machine(far.host, Run(machines[0], None))
    assert machine.look("")["lacks"].startswith("a GPU that nvidia-smi lists")
    assert "lacks" not in machine.look("", "--cpu") | machine.look(sys.executable, "--cpu")
    assert machine.look("/usr/bin/false", "--cpu")["lacks"].startswith("torch, transformers")
    (machines[0] / "data").mkdir()  # converted texts
    shown = rent(far, machines[0], "--cpu")
    assert shown.returncode == 2 and "Nothing was started" in shown.stderr, shown.stderr
    for part in (f"rsync -rtzu -e 'ssh -p {far.port}' -R", " data out/tokens ", "job.sh start"):
        assert part in shown.stdout, shown.stdout
    (far.folder / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n")
    assert machine.look("", "--cpu")["lacks"].startswith("Python 3.11 or newer")
    (far.folder / "bin" / "rsync").unlink()
    done = rent(far, machines[0])
    assert done.returncode == 2 and "lacks rsync: apt-get install -y rsync" in done.stderr
    assert "STILL COSTS MONEY" in done.stdout and "Traceback" not in done.stderr
    assert not (far.home / "handrail").exists()
    monkeypatch.setenv("PATH", str(far.folder / "here"))  # no rsync here either
    done = rent(far, machines[0])
    assert done.returncode == 2 and "There is no rsync on this machine" in done.stderr


def test_a_job_continues_without_us(far, machines, whole):
    """Ctrl-C here leaves the job running; killed there, the same command brings home what was
    saved, starts it again, survives a lost connection, and ends with the weights of a run in peace.
    """
    home = machines[0] / "out"
    process, said = begin(far, machines[0])
    until(lambda: "After update 6:" in said() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=20) == 130, said()
    assert "it continues there" in said() and "STILL COSTS MONEY" in said()
    (there,) = (far.home / "handrail").glob("first-model-*")
    pid = int((there / "job" / "pid").read_text())
    until(lambda: saved(there)[-1] >= 12)  # it continues
    end(pid)
    done = rent(far, machines[0])
    at = saved(machines[0])[-1]
    assert done.returncode == 1 and "THE JOB FAILED" in done.stdout, done.stdout + done.stderr
    assert int((there / "job" / "pid").read_text()) == pid and 12 <= at < 60
    assert len(metrics(machines[0])) >= at and not (home / "model").exists()

    process, said = begin(far, machines[0])
    until(lambda: f"Resuming after update {at}" in said() or process.poll() is not None)
    cut(far.server)
    assert process.wait(timeout=180) == 0 and "The connection is lost" in said(), said()
    assert "After update 60" in (home / "log.txt").read_text()
    assert weights(home) == weights(whole / "out") and saved(machines[0])[-1] == 60
    assert len(metrics(machines[0])) == 60 and not list(home.glob("**/*.lock"))

    decide(machines[0], lr=1e-3)  # another run: the checkpoints here are not its own
    other = rent(far, machines[0])
    assert other.returncode == 2 and "belongs to another run" in other.stderr, other.stderr
    assert len(list((far.home / "handrail").iterdir())) == 1


def test_a_job_that_is_stopped_or_refused_says_so(far, machines):
    """What is asked to stop saves first: exit 130. What the script refuses comes back as its own
    words, and exit 2.
    """
    machine = Machine(far.host, Run(machines[0], None))
    process, said = begin(far, machines[0])
    until(lambda: "After update 6:" in said() or process.poll() is not None)
    machine.do(machine.there("stop", "pretrain.py"))
    assert process.wait(timeout=60) == 130 and "The job was stopped" in said(), said()
    assert saved(machines[0])[-1] == len(metrics(machines[0])) < 60

    smi = far.folder / "bin" / "nvidia-smi"  # a GPU that torch cannot use
    smi.write_text("#!/bin/sh\necho 'GPU 0: NVIDIA T4 (UUID: GPU-1)'\n")
    smi.chmod(0o755)
    done = rent(far, machines[0], "--python", sys.executable, "--yes")
    assert done.returncode == 2 and "THE JOB WAS REFUSED" in done.stdout, done.stdout + done.stderr
    assert "no GPU that PyTorch can use" in done.stdout and "STILL COSTS MONEY" in done.stdout
    assert "no GPU that PyTorch can use" in (machines[0] / "out" / "log.txt").read_text()


SCRIPT = """import os, sys, time
print("process", os.environ.get("RANK"), "of", os.environ.get("WORLD_SIZE"), sys.argv[1:])
{end}
"""


@pytest.mark.parametrize(
    "end, gpus, code",
    [("raise ValueError('a bug')", 1, 1), ("print('Stopped. Saved.'); sys.exit(130)", 2, 130)],
)
def test_a_job_leaves_its_exit_code(tmp_path, monkeypatch, end, gpus, code):
    """A script that fails must not look like one that ended well; with several GPUs it runs once on
    each, and torchrun, which ends with 1 in any case, does not hide that it was stopped.
    """
    for name in ("out", "job"):
        (tmp_path / name).mkdir()
    shutil.copy(JOB, tmp_path / "out")
    (tmp_path / "train.py").write_text(SCRIPT.format(end=end))
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\n" + "echo 'GPU 0: NVIDIA T4 (UUID: GPU-1)'\n" * gpus)
    smi.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    words = ["run", "as-it-is", sys.executable, "train.py"]
    subprocess.run(["sh", "out/job.sh", *words], cwd=tmp_path, check=True, timeout=120)
    log = (tmp_path / "out" / "log.txt").read_text()
    assert int((tmp_path / "job" / "exit").read_text()) == code, log
    assert ("process 1 of 2 []" in log) == (gpus == 2), log


def test_projects_of_one_name_do_not_meet_over_there(machines, tmp_path):
    """Everybody's first project is called first-model: one must never follow another's job and take
    its model home. A copy elsewhere is the same project, and more updates are another run.
    """
    again = shutil.copytree(machines[0], tmp_path / "C" / "first-model")
    decide(machines[1], updates=91)
    mine, other, copied = (Run(folder, None).name for folder in [*machines, again])
    assert mine == copied != other and mine.startswith("first-model-"), (mine, other, copied)


def test_an_older_run_overwrites_nothing(far, machines, whole, capsys):
    """Somebody who finished the run at home, while the job was slow, keeps what is here. So does
    somebody who changed the settings meanwhile, or whose model has lost its checkpoints.
    """
    ended = shutil.copytree(whole, far.folder / "first-model")
    machine = Machine(far.host, Run(ended, None))
    before = made(ended)
    machine.fetch({"step": "00000048"})
    assert made(ended) == before and "nothing was fetched" in capsys.readouterr().out
    decide(ended, updates=70)  # changed here meanwhile
    with pytest.raises(SystemExit):
        machine.fetch({"step": "00000060"})
    assert "belongs to another run" in capsys.readouterr().err
    (ended / "out" / "checkpoints").rename(ended / "out" / "old")
    (ended / "out" / "model").rename(ended / "out" / "old-model")
    with pytest.raises(Stop, match="Nothing was fetched: what the job made is in handrail/first"):
        machine.fetch({"step": "00000060"})
    (ended / "out" / "old-model").rename(ended / "out" / "model")
    with pytest.raises(Stop, match="unknown run. First, move it away: mkdir .*old-1 && mv "):
        Run(ended, None)


# --- sync.py ---


def synced(machine, target, **how):
    """Start `python sync.py TARGET pretrain.py --cpu`, in a process group of its own."""
    command = [sys.executable, "sync.py", str(target), "pretrain.py", "--cpu"]
    return subprocess.Popen(
        command,
        cwd=machine,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        **how,
    )


@pytest.mark.long
def test_a_run_that_loses_its_machines_ends_with_the_same_weights(far, machines, whole):
    """Machines that are taken away, without a word or with one (SIGTERM), also while a checkpoint
    is on its way over ssh, cost time only: same bits, same curve.
    """
    kept, rng = far.home / "kept", random.Random()
    kept.mkdir()

    def notes():
        return max((int(path.name) for path in kept.glob("pretrain-whole/0*")), default=0)

    for i, kind in enumerate([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM]):
        machine, before = machines[i % 2], max([notes(), *saved(machines[i % 2])])
        process = synced(machine, f"{far.user}@127.0.0.1:kept")
        until(
            lambda: process.poll() is not None or max(saved(machine), default=0) > before  # noqa: B023
        )
        time.sleep(rng.uniform(0, 0.5))
        os.killpg(process.pid, kind) if kind == signal.SIGKILL else process.send_signal(kind)
        said, _ = process.communicate(timeout=180)
        assert before == 0 or "Resuming after update" in said, said
    assert process.returncode == 130 and notes() == max(saved(machine)), (
        said
    )  # the last word was heard, and its save is away
    at, process = notes(), synced(machines[1], f"{far.user}@127.0.0.1:kept")
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0 and f"Resuming after update {at}" in said, said
    assert weights(machines[1] / "out") == weights(whole / "out") == weights(kept / "pretrain")
    assert [(m["step"], m["loss"]) for m in metrics(machines[1])] == [
        (m["step"], m["loss"]) for m in metrics(whole)
    ]
    there, noted = (
        sorted(path.name for path in (kept / folder).glob("0*"))
        for folder in ("pretrain/checkpoints", "pretrain-whole")
    )
    assert len(there) == 2 and there == noted[-2:] and there[-1] == "00000060", (there, noted)


def test_a_start_that_fails_leaves_nothing_in_the_way(machines, tmp_path):
    """A slip in a setting or a name costs nothing: exit 2 in the script's own words, and the
    corrected command works.
    """
    a, b = machines
    target = tmp_path / "kept"
    target.mkdir()

    def sync(folder, name="pretrain.py"):
        return script(folder, "sync.py", target, name)

    decide(a, lr=-1)
    assert sync(a).returncode == 2
    (a / "settings.toml").write_text((a / "settings.toml").read_text() + "lr = = 3\n")
    slip = sync(a)
    assert slip.returncode == 2 and "Traceback" not in slip.stderr, slip.stderr
    shutil.copy(b / "settings.toml", a)
    decide(a, updates=6)
    assert sync(a, "pretrian.py").returncode == 2 and not list(target.glob("pretrian*"))
    done = sync(a)
    assert done.returncode == 0, done.stdout + done.stderr
    assert weights(target / "pretrain") == weights(a / "out")


def test_a_target_that_is_not_there_stops_the_start(machines, tmp_path):
    """A bucket that is not mounted must not be taken for an empty one: the run would begin again,
    and overwrite hours. Exit 2, nothing started.
    """
    done = script(machines[0], "sync.py", tmp_path / "not-mounted", "pretrain.py")
    assert done.returncode == 2 and "Nothing was started" in done.stderr, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    # an empty $TARGET is no target, least of all the root of this disk
    done = script(machines[0], "sync.py", "", "pretrain.py")
    assert done.returncode == 2 and "sync.py TARGET" in done.stderr, done.stdout + done.stderr
    assert not (machines[0] / "out" / "metrics.jsonl").exists()


def test_a_run_that_outlives_sync_is_not_started_twice(machines, tmp_path):
    """Where memory is short the kernel may kill sync.py and leave its script: two at once in one
    folder would spoil each other's checkpoints. Ended, the run continues.
    """
    target = tmp_path / "target"
    target.mkdir()
    decide(machines[0], updates=60)
    process = synced(machines[0], target)
    until(lambda: saved(machines[0]))
    process.kill()
    process.wait()
    said, _ = synced(machines[0], target).communicate(timeout=30)
    assert "still going here" in said and "Traceback" not in said, said
    os.kill(int((machines[0] / "out" / "sync.lock").read_text()), signal.SIGTERM)
    process.communicate(timeout=60)  # the script holds the other end until it has saved
    process = synced(machines[0], target)
    said, _ = process.communicate(timeout=180)
    assert (
        process.returncode == 0
        and "Resuming after update" in said
        and said.rstrip().endswith(": safe")
    ), said


@pytest.mark.parametrize("back", [True, pytest.param(False, marks=pytest.mark.long)])
def test_a_target_that_fails_stops_no_training(machines, tmp_path, back):
    """A target that goes away in the middle is named loudly and tried again at the next save; the
    run ends well, and the exit code says whether its model is safe.
    """
    target, away = tmp_path / "target", tmp_path / "away"
    (target / "pretrain").mkdir(parents=True)
    (target / "pretrain" / "thesis.tex").write_text("of its owner")
    decide(machines[0], updates=48)
    process = synced(machines[0], target)
    until(lambda: list(target.glob("pretrain-whole/0*")))
    target.rename(away)
    until(lambda: max(saved(machines[0])) >= 24)
    if back:
        away.rename(target)
    said, _ = process.communicate(timeout=180)
    assert (
        process.returncode == int(not back)
        and "NOT SAFE" in said
        and (": safe" in said.split("NOT SAFE")[-1]) == back
    ), said
    assert ((target if back else away) / "pretrain" / "thesis.tex").exists()


def test_a_save_during_a_slow_copy_takes_nothing_from_it(machines, tmp_path):
    """On a slow line the script saves and deletes several times while one checkpoint is sent: what
    arrives is whole all the same.
    """
    target, slow = tmp_path / "target", tmp_path / "bin" / "rsync"
    target.mkdir()
    slow.parent.mkdir()
    slow.write_text(f'#!/bin/sh\nexec {shutil.which("rsync")} --bwlimit=4000 "$@"\n')
    slow.chmod(0o755)
    decide(machines[0], updates=40, every=2)
    path = f"{slow.parent}:{os.environ['PATH']}"
    process = synced(machines[0], target, env=os.environ | {"PATH": path})
    said, _ = process.communicate(timeout=180)
    assert process.returncode == 0 and "NOT SAFE" not in said, said
    sent = [path.name for path in (target / "pretrain-whole").glob("0*")]
    assert "00000040" in sent and len(sent) < 20, sent  # most saves came during a copy
    for file in (machines[0] / "out" / "checkpoints" / "00000040").iterdir():
        there = target / "pretrain" / "checkpoints" / "00000040" / file.name
        assert there.read_bytes() == file.read_bytes(), file.name
