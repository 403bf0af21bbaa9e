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
from handrail.screen import Outcome
from handrail.steps.model import load_tokenizer
from handrail.steps.runs import changed_files, doctor_checks, duration, read_metrics
from handrail.steps.words import Words

USES = ["size", "base", "context", "batch"]

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
    return {
        "peak": budget.gb(fake.peak),
        "weights": budget.gb(fake.kinds["weights"]),
        "flops": budget.operations(fake.flops),
        "script": f"{script(project)}.py",
        "kill": KILL_AT,
        "every": EVERY,
        "match": "digit for digit"
        if project.cpu
        else "nearly (a GPU does not always add in order)",
    }


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
    why = f"an update takes {later * 1000:.0f} ms with compilation, {eager * 1000:.0f} ms without; "
    why += f"compiling takes about {first:.0f} s once"
    project.decide("compile", repaid, why)
    note = project.out / "rehearsal.json"
    note.write_text(json.dumps(json.loads(note.read_text()) | {"compiling": first}))
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
        sample, size = "", 0.0
        if code == 0:
            saved = made(stage) / "checkpoints" / f"{EVERY:08}"
            size = sum(file.stat().st_size for file in saved.rglob("*")) / 1e9
            sample = writes(stage, values)
    if not seconds and len(after) > 2:
        seconds = statistics.median(line["seconds"] for line in after[2:])
        peak = resident(RUSAGE_CHILDREN) / 1e9
    found = facts(project, values, seconds, log)
    words = Words(project, "rehearse")
    disk = f"{2 * size:.3f}"
    checks = [
        *doctor_checks(findings),  # first: it names the mistake, the others what follows from it
        *judge(project, before, after, code, found),
        words.check("the saved model writes", repr(sample), bool(sample)),
        memory(project, found["counted_gb"], peak),
        words.check("disk for 2 checkpoints, GB", disk, 2 * size < found["room"], **found),
    ]
    return Outcome(checks, found)


def facts(project, values, seconds, log):
    """Return the values of the words, and note down what an update takes."""
    note = project.out / "rehearsal.json"
    rehearsed = json.loads(note.read_text())
    note.write_text(json.dumps(rehearsed | {"seconds": seconds or float("nan")}))
    total = (seconds or 0) * values.updates
    quick = project.cpu and total < 1200
    compiled = project.settings.get("compile")
    return {
        "milliseconds": seconds and seconds * 1000,
        "updates": values.updates,
        "minutes": duration(total),
        "here": "" if seconds else None,
        "long": "" if seconds and not quick else None,
        "failed": None if seconds else "",
        "compiled": "" if compiled else None,
        "compiling": rehearsed.get("compiling", 0),
        "log": log[-800:],
        "resumed": f"Resuming after update {EVERY}" in log,
        "room": shutil.disk_usage(project.folder).free / 1e9,
        "counted_gb": rehearsed["peak"] / 1e9,
        "answer": budget.gb(rehearsed["peak"]),
        "changed": changed_files(project),
        "script": f"{script(project)}.py",
        "every": EVERY,
        "same": "the same" if project.cpu else "within 0.02",
    }


def judge(project, before, after, code, found):
    """Return the checks of a run that was killed and resumed, from its metrics on both sides."""
    words = Words(project, "rehearse")
    losses = [[line["loss"] for line in part[EVERY:KILL_AT]] for part in (before, after)]
    apart = max((abs(a - b) for a, b in zip(*losses, strict=False)), default=float("nan"))
    resumed = f"update {EVERY}" if found["resumed"] else "from the start"
    return [
        words.check(
            "{script} after the kill",
            "it does" if code == 0 else f"exit code {code}",
            code == 0,
            **found,
        ),
        words.check("resumes where it had saved", resumed, found["resumed"], **found),
        words.check(
            "losses before and after the kill",
            f"{apart:.2g} difference" if apart else "the same",
            apart <= (0 if project.cpu else 0.02),
            **found,
        ),
    ]


def memory(project, counted, peak):
    """Return the check of the peak: on a GPU against what was counted.

    On a CPU all of Python counts too, and of a fine-tuning only the CPU's memory is known: there it
    is for information.
    """
    words = Words(project, "rehearse")
    if project.cpu or script(project) != "pretrain" or not torch.cuda.is_available():
        expected = f"{counted:.2f} + about 0.7 for Python"
        return words.check("peak memory, GB", f"{peak:.2f}", True, counted=expected)
    budget.remember(project, "peak memory, GB", counted, peak)
    near = abs(peak / counted - 1) < 0.1
    expected = f"{counted:.2f} ± 10 %"
    return words.check("peak memory, GB", f"{peak:.2f}", near, "warn", counted=expected)


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
