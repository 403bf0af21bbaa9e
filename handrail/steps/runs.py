"""What steps that run a script of the project share: run it as its owner would, and judge it."""

import json
import shlex
import shutil
import sys
from contextlib import suppress

from handrail.doctor.findings import in_order, report
from handrail.doctor.watch import watch
from handrail.project.project import PROGRAM, Stop
from handrail.project.screen import check
from handrail.steps import learns

WHOLE = {"step", "loss", "lr"}  # what each line of metrics.jsonl has


def run_folder(project, name):
    """Return the folder that a script fills with checkpoints, metrics and a model."""
    return project.out if name == "pretrain" else project.out / name


def read_metrics(folder):
    """Return the lines of folder/metrics.jsonl as dicts, without those that are damaged."""
    file, lines = folder / "metrics.jsonl", []
    for text in file.read_text().splitlines() if file.exists() else []:
        with suppress(ValueError):
            lines.append(json.loads(text))
    return [line for line in lines if isinstance(line, dict) and WHOLE <= line.keys()]


def differences(project, name):
    """Return how the newest checkpoint's run differs from the one that settings and data ask for.

    A list of sentences; None if there is no checkpoint.
    """
    program = project.load("checkpoint", "identity")
    step = "" if name == "pretrain" else name
    found = program.checkpoint.checkpoints(run_folder(project, name) / "checkpoints")
    if not found:
        return None
    file = found[max(found)] / "run.json"
    theirs = json.loads(file.read_text()) if file.exists() else {}
    values = program.settings.read("", project.flags, step)
    run = program.identity.identity(values, project.out / learns(name))
    differs = [key for key in run if theirs.get(key) != run[key]]
    return [f"{key}: {theirs.get(key)} there, {run[key]} now" for key in differs]


def finished(screen, project, name, updates):
    """Return True, and say so, if the run that settings and data ask for is over already."""
    program = project.load("checkpoint")
    found = program.checkpoint.checkpoints(run_folder(project, name) / "checkpoints")
    over = max(found, default=0) >= updates and differences(project, name) == []
    if over:
        script = shlex.join(["python", f"{name}.py", *project.flags, "--out", "out/trial"])
        move = project.load("identity").identity.move_away(run_folder(project, name))
        again = f"`{script}` makes a trial; `{move}` moves this run away."
        screen.say(
            "This run is finished",
            f"All {updates:,} updates were made, so it is judged now, and not made again. To train "
            f"again with code that you changed since: {again}",
        )
    return over


def make_room(screen, project, name):
    """Move another run's checkpoints, metrics and model out of the way, if its owner agrees."""
    differs, folder = differences(project, name), run_folder(project, name)
    if differs is None and (folder / "model").exists():
        differs = [f"{folder / 'model'} is a trained model, and its checkpoints are gone"]
    if not differs:
        return
    number = 1
    while (folder / f"run-{number}").exists():
        number += 1
    archive = folder / f"run-{number}"
    screen.say("Another run is here", [*differs, f"It can be kept in {archive}."])
    if not screen.talks and not screen.yes:
        raise Stop(
            f"{folder} holds another run: {'; '.join(differs)}.\nTo keep it in {archive} and "
            "start again: add --yes. Or restore what differs, and it resumes."
        )
    if screen.ask("Enter to move it there and start again, q to stop here:").lower() == "q":
        raise KeyboardInterrupt
    archive.mkdir()
    for made in ("checkpoints", "metrics.jsonl", "model"):
        if (folder / made).exists():
            shutil.move(folder / made, archive / made)
    screen.print(f"  The earlier run is kept in {archive}.\n")


def run_script(project, name):
    """Run a script of the project to its end; return the checks of what the doctor saw.

    Raises Stop if the script failed.
    """
    script = f"{name}.py"
    code, findings, *_ = watch([sys.executable, script, *project.flags], cwd=project.folder)
    if code in (129, 130, 143):  # a closed terminal, Ctrl-C, SIGTERM
        raise KeyboardInterrupt
    if code:
        found = f"\n\n{report(findings)}" if findings else ""
        raise Stop(
            f"{script} ended with exit code {code}; its output is above. Checkpoints are safe; the "
            f"same command resumes.{found}"
        )
    return doctor_checks(findings)


def changed_files(project):
    """Return a sentence about which of the project's files were edited, for an advice."""
    files = sorted(file.name for file in project.folder.glob("*.py"))
    known = [name for name in files if (PROGRAM / name).exists()]
    changed = " ".join(project.edited(known))
    if not changed:
        return "No file of the program was changed."
    return f"You changed {changed}: `git diff` in {project.typed} shows how."


def duration(seconds):
    """Return seconds as a person says them."""
    return f"{seconds / 60:.1f} minutes" if seconds >= 90 else f"{seconds:.0f} seconds"


def decimal(number):
    """Return a small number with two digits that count, without an exponent."""
    return f"{float(f'{number:.2g}'):.9f}".rstrip("0").rstrip(".")


def whole_log(folder, updates, metrics):
    """Return the check that there is one line per update. The model does not depend on it."""
    return check(
        "updates written down",
        f"{updates:,}",
        f"{len(metrics):,}",
        [line["step"] for line in metrics] == list(range(1, updates + 1)),
        "The model is not affected, and nothing is trained again. But lines are missing or double "
        f"in {folder / 'metrics.jsonl'}, so the picture of the loss is not complete.",
        otherwise="warn",
    )


def lr_fell(metrics):
    """Return the check that the learning rate has come down at the end of a run."""
    last, highest = metrics[-1]["lr"], max(line["lr"] for line in metrics)
    return check(
        "learning rate at the end",
        f"at most {decimal(highest / 10)}, a tenth of its highest",
        decimal(last),
        last <= highest / 10,
        "The run ended before its learning rate had fallen. The last stretch, where steps get "
        "small, often gains the most.",
        "make_schedule has to be given the updates of this run",
        "warn",
    )


def doctor_checks(findings):
    """Return what the doctor found as checks, one per finding; one that passes if there is none."""
    checks = []
    for found in in_order(findings):
        when = f"update {found.update}" if found.update else "before the first update"
        known = f" How it is known: {found.evidence}." if found.evidence else ""
        checks.append(
            check(
                f"the doctor: {found.name}",
                "not there",
                f"{found.level}, {when}",
                False,
                f"{found.message}{known} Most likely: {found.causes[0]}.",
                f"{found.advice}. See it happen: handrail break {found.name}",
                otherwise={"certain": "fail", "warning": "warn"}[found.level],
            )
        )
    return checks or [check("the doctor (handrail watch)", "nothing found", "nothing found", True)]
