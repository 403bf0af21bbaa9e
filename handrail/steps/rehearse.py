"""Rehearse: fail in one minute, not in hour six. The real script, killed and started again."""

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

from handrail.cost import estimate
from handrail.cost.gpus import gb
from handrail.doctor.watch import attached
from handrail.project.project import Project, Stop
from handrail.project.screen import Outcome
from handrail.steps.model import load_tokenizer
from handrail.steps.runs import changed_files, doctor_checks, duration, read_metrics, run_folder
from handrail.steps.words import Words

USES = ["size", "base", "context", "batch"]

UPDATES, EVERY, KILL_AT = 12, 8, 10


def script(project):
    """Return the name of the run: finetune where the walk began with a trained model."""
    return "pretrain" if project.settings.get("data") else "finetune"


def values_of(project):
    """Return the settings as that script reads them."""
    step = "" if script(project) == "pretrain" else "finetune"
    return project.load().settings.read("", project.flags, step)


def FILES(project):
    files = ["checkpoint.py", "identity.py", "log.py"]
    if script(project) == "pretrain":
        return [*files, "pretrain.py"]
    return [*files, "model.py", "train.py", "optimizer.py", "finetune.py"]


def expect(project):
    import torch

    capable = torch.cuda.is_available() and not project.cpu
    fake = estimate.count(project, script(project), values_of(project), gpu=capable)
    project.peak = fake.peak  # written down when the step is taken
    return {
        "peak": gb(fake.peak),
        "weights": gb(fake.kinds["weights"]),
        "flops": estimate.operations(fake.flops),
        "script": f"{script(project)}.py",
        "kill": KILL_AT,
        "every": EVERY,
        "match": "digit for digit"
        if project.cpu
        else "nearly (a GPU does not always add in order)",
    }


def run(project, screen):
    values, peak, seconds = values_of(project), 0.0, None
    (project.out / "rehearsal.json").write_text(json.dumps({"peak": project.peak}))
    if script(project) == "pretrain":
        screen.print("  timing the update ...")
        _, eager, peak = fit(project)
        seconds = choose_compile(project, eager, values.updates)
    with tempfile.TemporaryDirectory() as folder:
        stage = small_copy(project, Path(folder))
        name = f"{script(project)}.py"
        screen.print(
            f"  running {name}, killing it after {KILL_AT} updates, running it again ...\n"
        )
        before, after, code, findings = killed_and_resumed(stage)
        log = (stage.folder / "log.txt").read_text()
        sample, disk = "", 0.0
        if code == 0:
            saved = run_folder(stage, script(stage)) / "checkpoints" / f"{EVERY:08}"
            disk = 2 * sum(file.stat().st_size for file in saved.rglob("*")) / 1e9
            sample = writes(stage, values)
    if not seconds and len(after) > 2:
        seconds = statistics.median(line["seconds"] for line in after[2:])
        peak = resident(RUSAGE_CHILDREN) / 1e9
    found = facts(project, values, seconds, log)
    words = Words(project, "rehearse")
    checks = [
        *doctor_checks(findings),  # first: it names the mistake, the others what follows from it
        *judge(project, before, after, code, found),
        words.check("the saved model writes", repr(sample), bool(sample)),
        memory(project, found["counted_gb"], peak),
        words.check("disk for 2 checkpoints, GB", f"{disk:.3f}", disk < found["room"], **found),
    ]
    return Outcome(checks, found)


# --- how long an update takes, and whether it fits ---


def timed(project, compiled=False, updates=12, patience=10):
    """Make some updates of the real loop here; return (seconds of the first, of a later one, GB).

    More than `updates` are made for up to `patience` seconds and a twentieth of the run.
    """
    import torch

    program = project.load("train", "model", "batches", "optimizer")
    values = program.values
    accelerator = program.settings.start(values)
    model = program.model.build(values, load_tokenizer(project))
    optimizer = program.optimizer.make_optimizer(model, values.lr)
    model, optimizer = accelerator.prepare(model, optimizer)
    tokens = program.batches.load_tokens(project.out / "tokens", "train")
    batches = program.batches.train_batches(tokens, values)
    loss, times = program.train.next_token_loss, []
    loss = torch.compile(loss) if compiled else loss
    on_gpu = torch.cuda.is_available() and not values.cpu
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    while len(times) < updates or sum(times[1:]) < patience and len(times) < values.updates / 20:
        step, began = len(times), time.perf_counter()
        program.train.update(accelerator, model, batches(step), loss, optimizer, 1.0).tolist()
        times.append(time.perf_counter() - began)
    peak = torch.cuda.max_memory_allocated() if on_gpu else resident(RUSAGE_SELF)
    accelerator.free_memory()
    return times[0], statistics.median(times[2:]), peak / 1e9


def resident(who):
    """Return the largest resident memory so far, in bytes; macOS counts in bytes, Linux in KiB."""
    return getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def fit(project):
    """Return timed(project), with half the rows at once for as long as memory runs out."""
    import torch

    rows = project.load().values.batch
    why = "as many rows as fit into the GPU's memory; an update adds them up"
    while True:
        try:
            return timed(project)
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            rows //= 2
            if rows == 0:
                raise Stop(
                    "Not even one row fits into this GPU's memory. Choose a smaller --size or a "
                    "shorter --context."
                ) from error
            project.decide("rows_at_once", rows, why)


def choose_compile(project, eager, updates):
    """Return the seconds of an update, after deciding whether torch.compile repays its time."""
    import torch

    compiler = torch.cuda.is_available() or shutil.which("g++")
    theirs = project.persons("compile", "rehearse")
    if theirs or eager * updates < 90 or project.load().values.base or not compiler:
        return eager
    try:
        first, later, _ = timed(project, compiled=True)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a reason not to use it, and not to stop
        why = f"torch.compile does not work on this machine: {type(error).__name__}"
        project.decide("compile", False, why)
        return eager
    repaid = first + later * updates < eager * updates
    why = f"an update takes {later * 1000:.0f} ms with compilation, {eager * 1000:.0f} ms without; "
    why += f"compiling takes about {first:.0f} s once"
    project.decide("compile", repaid, why)
    note(project, compiling=first)
    return later if repaid else eager


def note(project, **new):
    """Add to what is known about the run to come; return all of it."""
    file = project.out / "rehearsal.json"
    known = json.loads(file.read_text()) | new
    file.write_text(json.dumps(known))
    return known


# --- the run in small ---


def small_copy(project, folder):
    """Return a throw-away project: the same files, tokens and tokenizer, and a small run."""
    for file in [*project.folder.glob("*.py"), project.folder / "settings.toml"]:
        shutil.copy(file, folder)
    other = Project(folder, project.cpu)
    part = "" if script(project) == "pretrain" else "finetune."
    for name, value in {f"{part}every": EVERY, f"{part}updates": UPDATES, "compile": False}.items():
        other.decide(name, value, "rehearsal")
    other.out.mkdir()
    for name in ("tokens", "tokenizer", "chats"):
        if (project.out / name).exists():
            (other.out / name).symlink_to(project.out / name)
    return other


def killed_and_resumed(project):
    """Run the script, kill it, run it to its end.

    Return (metrics before, after, the last exit code, what the doctor found).
    """
    folder = run_folder(project, script(project))
    with attached() as (variables, found), open(project.folder / "log.txt", "a") as log:
        how = {"stdout": log, "stderr": subprocess.STDOUT, "env": os.environ | variables}
        process = project.python(f"{script(project)}.py", **how)
        while process.poll() is None and len(read_metrics(folder)) < KILL_AT:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        code = process.wait()
        before = read_metrics(folder)
        if before:
            code = project.python(f"{script(project)}.py", **how).wait()
        return before, read_metrics(folder), code, found()[0]


def writes(project, values):
    """Return a few words that the saved model writes."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = run_folder(project, script(project)) / "model"
    model = AutoModelForCausalLM.from_pretrained(folder)
    if script(project) == "pretrain":
        tokenizer = load_tokenizer(project)
        tokens = project.load("pretrain").pretrain.write(model, tokenizer, values.prompt, length=20)
        return tokenizer.decode(tokens[0])
    program = project.load("messages", "replies")
    chat = program.messages.load_rows(project.out / "chats" / "val.jsonl")[0]
    tokenizer = AutoTokenizer.from_pretrained(folder)
    question = chat["messages"][:-1]
    return tokenizer.decode(program.replies.replies(model, tokenizer, [question], length=20)[0])


# --- what came of it ---


def facts(project, values, seconds, log):
    """Return the values of the words, and note down what an update takes."""
    known = note(project, seconds=seconds or float("nan"))
    total = (seconds or 0) * values.updates
    quick = project.cpu and total < 1200
    return {
        "milliseconds": seconds and seconds * 1000,
        "updates": values.updates,
        "minutes": duration(total),
        "here": "" if seconds else None,
        "long": "" if seconds and not quick else None,
        "failed": None if seconds else "",
        "compiled": "" if project.settings.get("compile") else None,
        "compiling": known.get("compiling", 0),
        "log": log[-800:],
        "resumed": f"Resuming after update {EVERY}" in log,
        "room": shutil.disk_usage(project.folder).free / 1e9,
        "counted_gb": known["peak"] / 1e9,
        "answer": f"{gb(known['peak'])}, counted; Python itself takes more",
        "folder": project.typed,
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
    ended = "it does" if code == 0 else f"exit code {code}"
    resumed = f"update {EVERY}" if found["resumed"] else "from the start"
    differ = f"{apart:.2g} difference" if apart else "the same"
    near = apart <= (0 if project.cpu else 0.02)
    return [
        words.check("{script} after the kill", ended, code == 0, **found),
        words.check("resumes where it had saved", resumed, found["resumed"], **found),
        words.check("losses before and after the kill", differ, near, **found),
    ]


def memory(project, counted, peak):
    """Return the check of the peak: on a GPU against what was counted.

    On a CPU all of Python counts too, and of a fine-tuning only the CPU's memory is known: there it
    is for information.
    """
    import torch

    words = Words(project, "rehearse")
    if project.cpu or script(project) != "pretrain" or not torch.cuda.is_available():
        expected = f"{counted:.2f} + about 0.7 for Python"
        return words.check("peak memory, GB", f"{peak:.2f}", True, counted=expected)
    estimate.remember(project, "peak memory, GB", counted, peak)
    near = abs(peak / counted - 1) < 0.1
    expected = f"{counted:.2f} ± 10%"
    return words.check("peak memory, GB", f"{peak:.2f}", near, "warn", counted=expected)
