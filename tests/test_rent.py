"""A rented machine, without paying for one: a real OpenSSH server on the loopback address, and runs
that lose their machine.
"""

import contextlib
import getpass
import hashlib
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from conftest import BIN, HOUSE, decide, handrail, metrics, once, script

from handrail import __version__
from handrail.project import PROGRAM
from handrail.village import stories

SETTINGS = {
    "handrail": __version__,
    "data": "village.jsonl",
    "vocabulary": 512,
    "size": "1m",
    "prompt": "One ",
    "updates": 90,
    "every": 6,
    "batch": 4,
    "context": 64,
}
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
  IdentityFile {folder}/me
  IdentitiesOnly yes
  IdentityAgent none
  UserKnownHostsFile {folder}/known
  GlobalKnownHostsFile /dev/null
"""
SHELL = """#!/bin/sh
export HOME={folder}/home PATH={folder}/bin OMP_NUM_THREADS=1
cd "$HOME" && exec sh -c "$SSH_ORIGINAL_COMMAND"
"""


def prepare(folder):
    """Make `folder` a village project as the walk leaves it before the run."""
    shutil.copytree(PROGRAM, folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(HOUSE / "handrail" / "project_template" / "requirements.txt", folder)
    (folder / "village.jsonl").write_text(
        "".join(json.dumps(story) + "\n" for story in islice(stories(0), 200))
    )
    (folder / "settings.toml").write_text(
        "".join(f"{name} = {json.dumps(value)}\n" for name, value in SETTINGS.items())
    )
    return script(folder, "tokenizer.py")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory):
    return once(tmp_path_factory, "tiny", prepare)[0]


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
def far(tmp_path):
    """A machine over there: sshd with its own keys, a home of its own, and in its PATH all of this
    machine's tools but nvidia-smi.
    """
    if not (SSHD and shutil.which("rsync") and shutil.which("ssh-keygen")):
        pytest.fail(
            "These tests log into a real OpenSSH server and copy with rsync. "
            "On this machine: sudo apt-get install -y openssh-server rsync"
        )
    folder = tmp_path / "far"
    for name in ("home", "bin"):
        (folder / name).mkdir(parents=True)
    for tool in [*Path("/bin").iterdir(), *Path("/usr/bin").iterdir()]:
        if (
            tool.name != "nvidia-smi"
            and not tool.name.startswith("python3")
            and not (folder / "bin" / tool.name).exists()
        ):
            (folder / "bin" / tool.name).symlink_to(tool)
    for name, text in {
        "bin/python3": f'#!/bin/sh\nexec {sys.executable} "$@"\n',
        "shell": SHELL.format(folder=folder),
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for key in ("host", "me", "other"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / key], check=True
        )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "server").write_text(SERVER.format(folder=folder, port=port))
    (folder / "client").write_text(CLIENT.format(folder=folder))
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # as its service does; sshd wants it
    ssh = f"ssh -F {folder}/client"
    server = psutil.Popen([SSHD, "-D", "-f", folder / "server", "-E", folder / "sshd.txt"])
    until(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10)
    yield SimpleNamespace(
        folder=folder,
        home=folder / "home",
        there=folder / "home" / "handrail" / "first-model",
        port=port,
        server=server,
        user=getpass.getuser(),
        host=f"{getpass.getuser()}@127.0.0.1:{port}",
        env=os.environ | {"HANDRAIL_SSH": ssh, "RSYNC_RSH": f"{ssh} -p {port}"},
    )
    jobs = [int(file.read_text()) for file in folder.glob("home/handrail/*/out/pid")]
    left = [
        process
        for pid in jobs
        if psutil.pid_exists(pid)
        for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    ]
    kill(left)  # of a test that failed
    cut(server)
    server.kill()
    server.wait()


def kill(processes):
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):  # gone by itself
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


def rent(far, *words):
    return handrail("rent", "ssh", far.host, *words, env=far.env)


def begin(far, project, *words):
    """Start `handrail rent ssh` in the background, its output going to a file; return (process, how
    to read the file).
    """
    said = far.folder / f"said-{len(list(far.folder.glob('said-*')))}"
    command = [
        BIN / "handrail",
        "rent",
        "ssh",
        far.host,
        project,
        "--cpu",
        "--python",
        sys.executable,
        "--yes",
        *words,
    ]
    with open(said, "w") as file:
        heard = [
            "env",
            "--default-signal=INT",
        ]  # a suite that runs in the background ignores Ctrl-C
        process = subprocess.Popen(
            [*heard, *map(str, command)],
            stdout=file,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=far.env,
        )
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
    (far.folder / "known").write_text(
        f"[127.0.0.1]:{far.port} {(far.folder / 'other.pub').read_text()}"
    )


WRONG = {  # what is not right over there: how it comes about, what is typed, what must be said
    "unknown host": (
        lambda far: (far.folder / "known").write_text(""),
        ["--cpu"],
        ["not known to this machine", "ssh -p {port} {user}@127.0.0.1", "fingerprint"],
    ),
    "another machine at its address": (
        another_machine,
        ["--cpu"],
        ["another host key", "ssh-keygen -R '[127.0.0.1]:{port}'"],
    ),
    "wrong key": (wrong_key, ["--cpu"], ["takes none of your keys", "ssh-keygen -t ed25519"]),
    "switched off": (
        lambda far: far.server.kill(),
        ["--cpu"],
        ["does not answer", "Is the machine on"],
    ),
    "no GPU": (lambda far: None, [], ["no GPU that nvidia-smi lists", "--cpu"]),
    "no rsync": (
        lambda far: (far.folder / "bin" / "rsync").unlink(),
        ["--cpu"],
        ["It lacks rsync", "apt-get install -y rsync"],
    ),
    "no Python": (
        lambda far: (far.folder / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n"),
        ["--cpu"],
        ["no Python of 3.11", "python3-venv"],
    ),
    "no yes": (lambda far: None, ["--cpu"], ["Nothing was started", "--yes"]),
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_is_wrong_over_there_is_a_sentence(far, machines, fault):
    """A machine that cannot do it, or that nobody said yes to, is left as it was: exit 2, what is
    wrong, the command that mends it.
    """
    come, words, said = WRONG[fault]
    come(far)
    done = rent(
        far,
        machines[0],
        *words,
        *(["--python", sys.executable] if fault == "no yes" else []),
        *([] if fault == "no yes" else ["--yes"]),
    )
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stdout + done.stderr
    for part in said:
        assert part.format(port=far.port, user=far.user) in done.stderr, done.stdout + done.stderr
    assert not (far.home / "handrail").exists()
    if fault == "no yes":
        assert (
            f"rsync -rtzRL -e 'ssh -p {far.port}'" in done.stdout
            and "setsid nohup sh out/job.sh" in done.stdout
            and "costs money" in done.stdout
        )


def test_a_job_continues_without_us(far, machines, whole):
    """Ctrl-C here leaves the job running and starts nothing twice; --stop saves and fetches. The
    same command continues, survives a dropped line, brings the same weights, and overwrites nothing
    that was edited over there.
    """
    home = machines[0] / "out"
    process, said = begin(far, machines[0])
    until(lambda: "After update 6:" in said() or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    assert (
        process.wait(timeout=20) == 130 and "runs on" in said() and "STILL COSTS MONEY" in said()
    ), said()
    pid = int((far.there / "out" / "pid").read_text())
    assert psutil.pid_exists(pid)
    stopped = rent(far, machines[0], "--stop")
    assert stopped.returncode == 0 and "stopped by somebody" in stopped.stdout, (
        stopped.stdout + stopped.stderr
    )
    assert int((far.there / "out" / "pid").read_text()) == pid and not psutil.pid_exists(pid)
    at = saved(machines[0])[-1]
    assert 6 <= at < 90 and len(metrics(machines[0])) == at and not (home / "model").exists()

    (far.there / "train.py").write_text(
        (far.there / "train.py").read_text() + "# a thought of the night\n"
    )
    edited = rent(far, machines[0], "--cpu", "--python", sys.executable, "--yes")
    assert (
        edited.returncode == 2
        and "train.py in ~/" in edited.stderr
        and "changed there after it was sent" in edited.stderr
    ), edited.stderr
    (far.there / "out" / "sent").unlink()

    (home / "model").mkdir()
    (home / "model" / "mine.txt").write_text("precious")
    process, said = begin(far, machines[0])
    until(lambda: f"Resuming after update {at}" in said() or process.poll() is not None)
    cut(far.server)
    assert process.wait(timeout=180) == 0 and "was lost" in said(), said()
    steps = range(6 * (at // 6 + 1), 91, 6)
    assert [said().count(f"After update {step}:") for step in steps] == [1] * len(steps), (
        said()
    )  # nothing missed, nothing twice
    assert (
        weights(home) == weights(whole / "out")
        and (home / "model-1" / "mine.txt").read_text() == "precious"
    )
    assert (
        saved(machines[0])[-1] == 90
        and len(metrics(machines[0])) == 90
        and "After update 90" in (home / "log.txt").read_text()
    )

    def again():
        return rent(far, machines[0], "--cpu", "--python", sys.executable, "--yes")

    done = again()
    assert done.returncode == 2 and "this run is whole" in done.stderr, done.stdout + done.stderr
    decide(machines[0], lr=1e-3)
    other = again()
    assert (
        other.returncode == 2
        and "other lr" in other.stderr
        and f"mv {far.there.relative_to(far.home)}" in other.stderr
    ), other.stderr
    far.there.rename(
        far.there.with_name("moved")
    )  # as it was told; what is here is of the old run too
    other = again()
    assert (
        other.returncode == 2
        and f"mv {home / 'checkpoints'}" in other.stderr
        and not (far.there / "train.py").exists()
    ), other.stdout + other.stderr


def test_a_job_whose_shell_was_killed_is_followed_to_its_end(far, machines):
    """Memory that runs short may take the shell and leave the script: it is followed until it is
    over, and what it made comes home.
    """
    decide(machines[0], updates=36)
    process, said = begin(far, machines[0])
    until(lambda: "After update 6:" in said() or process.poll() is not None)
    os.kill(int((far.there / "out" / "pid").read_text()), signal.SIGKILL)
    assert (
        process.wait(timeout=120) == 0 and "was lost" not in said() and "over, and well" in said()
    ), said()
    assert (machines[0] / "out" / "model" / "config.json").exists()


def test_projects_of_one_name_do_not_meet_over_there(machines, tmp_path):
    """Everybody's first project is called first-model: one must never follow another's job and take
    its model home. A copy elsewhere is the same project.
    """
    from handrail.rent.ssh import read

    for number, folder in enumerate(machines):
        for words in (["init", "-q"], ["commit", "-q", "--allow-empty", "-m", f"project {number}"]):
            subprocess.run(
                ["git", "-c", "user.name=me", "-c", "user.email=me@here", *words],
                cwd=folder,
                check=True,
            )
    again = shutil.copytree(machines[0], tmp_path / "C" / "first-model")
    mine, other, copied = (read(["me@machine", str(folder)]).far for folder in [*machines, again])
    assert mine == copied != other and mine.startswith("handrail/first-model-"), (
        mine,
        other,
        copied,
    )


def test_a_full_disk_over_there_is_named(far, machines):
    """A disk that fills up over there loses nothing here, and is named, not shown as a traceback;
    one too small for the packages is refused at once.
    """
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=20", "tmpfs", far.home],
        capture_output=True,
    ).returncode:
        pytest.fail(
            "This test mounts a disk of 4 MB, which only root may do. "
            "Run the tests as root, for instance in a container."
        )
    try:
        early = rent(far, machines[0], "--cpu", "--yes")
        assert (
            early.returncode == 2
            and "GB free" in early.stderr
            and not (far.home / "handrail").exists()
        ), early.stderr
        copying = rent(far, machines[0], "--cpu", "--python", sys.executable, "--yes")
        assert (
            copying.returncode == 2
            and f"The disk of {far.user}@127.0.0.1 is full" in copying.stderr
        ), copying.stdout + copying.stderr
        subprocess.run(["mount", "-o", "remount,nr_inodes=1000", far.home], check=True)
        done = rent(far, machines[0], "--cpu", "--python", sys.executable, "--yes")
        assert (
            done.returncode == 1
            and "The disk over there is full" in done.stdout
            and "Traceback" not in done.stderr
        ), done.stdout + done.stderr
        assert (
            "could not be written" in (machines[0] / "out" / "log.txt").read_text()
            and len(metrics(machines[0])) == 6
        )
    finally:
        subprocess.run(["umount", "-l", far.home], check=True)


def test_a_job_that_dies_at_once_is_explained(far, machines):
    """The commonest first minute: the machine has a GPU and torch cannot use it. The log comes
    back, and says what to do.
    """
    (far.folder / "bin" / "nvidia-smi").write_text("#!/bin/sh\necho NVIDIA T4\n")
    (far.folder / "bin" / "nvidia-smi").chmod(0o755)
    done = rent(far, machines[0], "--python", sys.executable, "--yes")
    assert done.returncode == 1 and "NVIDIA T4" in done.stdout, done.stdout + done.stderr
    assert (
        "THE JOB FAILED" in done.stdout
        and "driver and this torch do not fit together" in done.stdout
        and "STILL COSTS MONEY" in done.stdout
    )
    assert "no GPU that PyTorch can use" in (machines[0] / "out" / "log.txt").read_text()


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
        process = synced(machine, f"{far.user}@127.0.0.1:kept", env=far.env)
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
    at, process = notes(), synced(machines[1], f"{far.user}@127.0.0.1:kept", env=far.env)
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
    assert len(there) == 2 and there == noted[-2:] and there[-1] == "00000090", (there, noted)


def test_a_start_that_fails_leaves_nothing_in_the_way(machines, tmp_path):
    """A slip in a setting or a name costs nothing: exit 2 in the script's own words, and the
    corrected command works.
    """
    a, b = machines
    target = tmp_path / "kept"
    target.mkdir()

    def sync(folder, *words):
        return subprocess.run(
            [sys.executable, "sync.py", target, *(words or ["pretrain.py"]), "--cpu"],
            cwd=folder,
            capture_output=True,
            text=True,
        )

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
    process = synced(machines[0], tmp_path / "not-mounted")
    said, _ = process.communicate(timeout=30)
    assert process.returncode == 2 and "Nothing was started" in said and "Traceback" not in said, (
        said
    )
    said, _ = synced(machines[0], "").communicate(
        timeout=30
    )  # an empty $TARGET is no target, least of all the root of this disk
    assert "sync.py TARGET" in said and not (machines[0] / "out" / "metrics.jsonl").exists(), said


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
