"""Rehearse: fail in one minute, not in hour six. The real script, killed and started again, in a throw-away copy."""

import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from resource import RUSAGE_CHILDREN, RUSAGE_SELF, getrusage

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from handrail import budget
from handrail.doctor.watch import attached
from handrail.project import Project, Stop
from handrail.screen import Outcome, check
from handrail.steps.model import load_tokenizer
from handrail.steps.runs import doctor_checks, read_metrics

TITLE = "The rehearsal"
USES = ["size", "base", "context", "batch"]
SECONDS = (40, 60)
MORE = """Long runs seldom die of wrong mathematics. They die of the first evaluation that needs more memory, of a disk
that is full at the third checkpoint, of a machine that is taken back at night. So the whole play is given once in small:
train, look at val, save, then a kill without warning (SIGKILL, as when the power goes), then again from the checkpoint.
What was already measured before the kill must come out the same after it, and the saved model must load and write."""

UPDATES, EVERY, KILL_AT = 12, 8, 10


def script(project):
    """Return the name of the run that is rehearsed: pretrain, or finetune where the walk began with a trained model."""
    return "pretrain" if project.settings.get("data") else "finetune"


def part(name):
    """Return the part of settings.toml that a script reads besides the general settings."""
    return "" if name == "pretrain" else name


def FILES(project):
    return [
        "checkpoint.py",
        "identity.py",
        "log.py",
        *(
            ["pretrain.py"]
            if script(project) == "pretrain"
            else ["model.py", "train.py", "optimizer.py", "finetune.py"]
        ),
    ]


def expect(project):
    fake = on_fake_tensors(project)
    project.out.mkdir(exist_ok=True)
    (project.out / "rehearsal.json").write_text(json.dumps({"peak": fake.peak}))
    return [
        f"First on fake tensors, which have a shape and no numbers: at its peak an update holds {budget.gb(fake.peak)} of tensors, "
        f"the weights are {budget.gb(fake.kinds['weights'])} of them, and it costs {budget.operations(fake.flops)}.",
        f"`{script(project)}.py` makes {KILL_AT} updates and is killed without warning. Started again, it resumes after update {EVERY}, "
        f"where it had saved, and its losses are {'digit for digit' if project.cpu else 'nearly'} those of before.",
        "The saved model loads again and writes text. After that we know the time and the memory of the real run.",
    ]


def on_fake_tensors(project):
    """Return what an update of this project needs here, counted without making it."""
    name = script(project)
    values = project.load().settings.read("", project.flags, part(name))
    capable = torch.cuda.is_available() and not project.cpu
    return budget.rehearse(project, name, values, gpu=capable)


def copy(project, folder):
    """Return a throw-away project: same files, tokens and tokenizer; small run."""
    for file in project.folder.glob("*.py"):
        shutil.copy(file, folder)
    shutil.copy(project.folder / "settings.toml", folder)
    other = Project(folder, project.cpu)
    part = "finetune." if script(project) == "finetune" else ""
    for name, value in {f"{part}every": EVERY, f"{part}updates": UPDATES, "compile": False}.items():
        other.decide(name, value, "rehearsal")
    other.out.mkdir()
    for name in ("tokens", "tokenizer", "chats"):
        if (project.out / name).exists():
            (other.out / name).symlink_to(project.out / name)
    return other


def start(project, variables):
    log = open(project.folder / "log.txt", "a")
    return project.python(
        f"{script(project)}.py", stdout=log, stderr=subprocess.STDOUT, env=os.environ | variables
    )


def killed_and_resumed(project):
    """Run the script, kill it after KILL_AT updates, run it to the end; return the metrics before and after, exit code, findings."""
    with attached() as (variables, found):
        process, folder = start(project, variables), made(project)
        while process.poll() is None and len(read_metrics(folder)) < KILL_AT:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
        before = read_metrics(folder)
        if not before:
            return before, [], process.returncode, found()[0]
        code = start(project, variables).wait()
        return before, read_metrics(folder), code, found()[0]


def made(project):
    """Return the folder in which the run leaves its metrics, checkpoints and model."""
    return project.out if script(project) == "pretrain" else project.out / "finetune"


def timed(project, compiled, updates=12, patience=10):
    """Make some updates of the real loop in this process; return (seconds of the first, median of the later ones, peak GB).

    More than `updates` are made for up to `patience` seconds and a twentieth of the run: the longer, the nearer.
    """
    program = project.load("train", "model", "batches", "optimizer")
    values = program.values
    accelerator = program.settings.start(values)
    model = program.model.build(values, load_tokenizer(project))
    model, optimizer = accelerator.prepare(
        model, program.optimizer.make_optimizer(model, values.lr)
    )
    batches = program.batches.train_batches(
        program.batches.load_tokens(project.out / "tokens", "train"), values
    )
    loss, times = program.train.next_token_loss, []
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    loss = torch.compile(loss) if compiled else loss
    while len(times) < updates or sum(times[1:]) < patience and len(times) < values.updates / 20:
        step, began = len(times), time.perf_counter()
        program.train.update(accelerator, model, batches(step), loss, optimizer, 1.0).tolist()
        times.append(time.perf_counter() - began)
    peak = (
        torch.cuda.max_memory_allocated()
        if torch.cuda.is_available() and not values.cpu
        else resident(RUSAGE_SELF)
    )
    accelerator.free_memory()
    return times[0], statistics.median(times[2:]), peak / 1e9


def resident(who):
    """Return the largest resident memory so far, in bytes; macOS counts in bytes, Linux in KiB."""
    return getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fit(project):
    """Return timed(project), with fewer rows at once for as long as memory runs out; the sum over them is the same."""
    rows = project.load().values.batch
    while True:
        try:
            return timed(project, compiled=False)
        except torch.OutOfMemoryError:
            torch.cuda.empty_cache()
            rows //= 2
            if rows == 0:
                raise Stop(
                    "Not even one row fits into this GPU's memory. Choose a smaller --size or a shorter --context."
                )
            project.decide(
                "rows_at_once",
                rows,
                "as many rows as fit into the GPU's memory; an update adds them up",
            )


def choose_compile(project, eager, updates):
    """Return the seconds an update will take, after deciding whether torch.compile repays the time it takes."""
    if (
        eager * updates < 90
        or project.load().values.base
        or not (torch.cuda.is_available() or shutil.which("g++"))
    ):
        return eager
    try:
        first, later, _ = timed(project, compiled=True)
    except torch.OutOfMemoryError:
        raise
    except (
        Exception
    ) as error:  # no working compiler on this machine: a reason not to use it, not to stop
        project.decide(
            "compile", False, f"torch.compile does not work on this machine: {type(error).__name__}"
        )
        return eager
    repaid = first + later * updates < eager * updates
    why = f"an update takes {later * 1000:.0f} ms compiled and {eager * 1000:.0f} ms not; compiling takes about {first:.0f} s once"
    project.decide("compile", repaid, why)
    return later if repaid else eager


def run(project, screen):
    program, name = project.load(), script(project)
    values, peak, seconds = program.settings.read("", project.flags, part(name)), 0.0, None
    if name == "pretrain":
        screen.print("  timing the update ...")
        _, eager, peak = fit(project)
        seconds = choose_compile(project, eager, values.updates)
    with tempfile.TemporaryDirectory() as folder:
        stage = copy(project, Path(folder))
        screen.print(
            f"  running {name}.py, killing it after {KILL_AT} updates, running it again ...\n"
        )
        before, after, code, findings = killed_and_resumed(stage)
        log = (stage.folder / "log.txt").read_text()
        losses = [[line["loss"] for line in part[EVERY:KILL_AT]] for part in (before, after)]
        apart = max((abs(a - b) for a, b in zip(*losses)), default=float("nan"))
        sample, size = "", 0.0
        if code == 0:
            saved = made(stage) / "checkpoints" / f"{EVERY:08}"
            size = sum(file.stat().st_size for file in saved.rglob("*")) / 1e9
            sample = writes(stage, values)
    if not seconds and len(after) > 2:
        seconds, peak = (
            statistics.median(line["seconds"] for line in after[2:]),
            resident(RUSAGE_CHILDREN) / 1e9,
        )
    seconds = seconds or float("nan")
    total = seconds * values.updates
    rehearsed = json.loads((project.out / "rehearsal.json").read_text())
    (project.out / "rehearsal.json").write_text(json.dumps(rehearsed | {"seconds": seconds}))
    room = shutil.disk_usage(project.folder).free / 1e9
    went_on = f"Resuming after update {EVERY}" in log
    checks = [
        check(
            f"{name}.py after the kill",
            "ends well",
            f"exit code {code}",
            code == 0,
            log[-800:],
            f"Run `python {name}.py` and read the error.",
        ),
        check(
            "goes on where it had saved",
            f"update {EVERY}",
            f"update {EVERY}" if went_on else "the start",
            went_on,
            "The checkpoint was not found or not whole.",
        ),
        check(
            "losses before and after the kill",
            "the same" if project.cpu else "within 0.02",
            f"{apart:.2g} apart",
            apart <= (0 if project.cpu else 0.02),
            "What the next update depends on is not all in the checkpoint.",
            "Compare checkpoint.py and batches.py with `git diff`.",
        ),
        check("saved model writes", "text", repr(sample), bool(sample)),
        memory(project, rehearsed["peak"] / 1e9, peak),
        check(
            "disk for 3 checkpoints, GB",
            f"< {room:.0f} free",
            f"{3 * size:.3f}",
            3 * size < room,
            "The run would stop at a full disk.",
            "Free some space.",
        ),
        *doctor_checks(findings),
    ]
    tells = (
        f"One update takes {seconds * 1000:.0f} ms, so the run of {values.updates:,} updates takes about "
        f"{total / 60:.1f} minutes here. " + cost(total, project)
    )
    return Outcome(
        checks,
        tells
        if total == total
        else "It did not get far enough to tell how long the run will take.",
    )


def memory(project, counted, peak):
    """Return the check of the peak: on a card what was counted; on a CPU, where all of Python counts too, for your information."""
    # of a fine-tuning, which runs in a process of its own, only the memory of the CPU is known
    if project.cpu or script(project) != "pretrain" or not torch.cuda.is_available():
        return check(
            "peak memory, GB (for your information)",
            f"{counted:.2f} of tensors, and the libraries",
            f"{peak:.2f}",
            True,
        )
    budget.remember(project, "peak memory, GB", counted, peak)
    return check(
        "peak memory, GB",
        f"{counted:.2f} ± 10 %",
        f"{peak:.2f}",
        abs(peak / counted - 1) < 0.1,
        "The count on fake tensors is off for this card.",
        otherwise="warn",
    )


def writes(project, values):
    """Return a few words that the saved model writes."""
    model = AutoModelForCausalLM.from_pretrained(made(project) / "model")
    if script(project) == "pretrain":
        tokenizer = load_tokenizer(project)
        tokens = project.load("pretrain").pretrain.write(model, tokenizer, values.prompt, length=20)
        return tokenizer.decode(tokens[0])
    program = project.load("finetune", "messages")
    chat = program.messages.load_rows(project.out / "chats" / "val.jsonl")[0]
    tokenizer = AutoTokenizer.from_pretrained(made(project) / "model")
    text = tokenizer.apply_chat_template(
        chat["messages"][:-1], tokenize=False, add_generation_prompt=True
    )
    inputs = tokenizer(text, return_tensors="pt", add_special_tokens=False)
    return tokenizer.decode(
        model.generate(**inputs, max_new_tokens=20, use_cache=True)[
            0, inputs["input_ids"].size(1) :
        ]
    )


def cost(seconds, project):
    """Say whether the run can be made here, and what tells what it would take elsewhere."""
    if project.cpu and seconds < 1200:
        return "It can run right here."
    return f"{'That is long for a CPU. ' * project.cpu}Which GPU, how long, how much: handrail rehearse {project.typed} --gpus 1. Then: handrail rent"
