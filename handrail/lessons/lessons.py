"""`handrail break [FAULT] [DIR]`: a silent mistake, shown happening: healthy and broken side by side, and what caught it."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

from handrail.project.project import Stop

FAULTS = Path(__file__).parent / "faults"
HERE = {
    "walk": "the walk's own checks",
    "files": "handrail doctor, on the files",
    "watch": "handrail watch, while it runs",
    "line": "a Doctor in the loop",
}


@dataclass
class Fault:
    """One file of faults/: a head, three paragraphs, a patch."""

    name: str
    head: dict
    parts: dict  # "What it is", "You would have seen", "In real life"
    diff: str

    @property
    def number(self):
        return int(self.head["Number"])


def read(file):
    """Return the Fault that a file holds."""
    text, _, diff = file.read_text().partition("\n---\n")
    head, *paragraphs = text.split("\n\n")
    return Fault(
        file.stem,
        dict(line.split(": ", 1) for line in head.splitlines()),
        {
            part.split(":")[0].strip(): " ".join(part.split(":", 1)[1].split())
            for part in paragraphs
            if ":" in part
        },
        diff,
    )


def faults():
    """Return all faults, by name, in the catalogue's order."""
    return {
        fault.name: fault
        for fault in sorted(map(read, FAULTS.glob("*.patch")), key=lambda fault: fault.number)
    }


def meanings():
    """Return {name: what it is, in words} of all faults, for `handrail explain`."""
    return {
        name: f"{fault.parts['What it is']}\n\nIn real life: {fault.parts['In real life']}\n\n"
        f"See it happen: handrail break {name}"
        for name, fault in faults().items()
    }


def show_list(screen):
    """Print the faults by the step in which they are made."""
    known = faults()
    screen.print(
        "Silent mistakes of training: nothing crashes, the loss looks normal, the model is bad.\nhandrail break NAME shows one happening, and what catches it.\n"
    )
    for step in dict.fromkeys(fault.head["Step"] for fault in known.values()):
        screen.console.print(f"[bold cyan]{step}[/]")
        for fault in known.values():
            if fault.head["Step"] == step:
                screen.print(f"  {fault.name:30} {fault.head['Title']}")


def apply(fault, folder):
    """Apply the patch in a folder; return False if it does not fit."""
    if "diff --git" not in fault.diff:
        return True
    done = subprocess.run(
        ["git", "apply", "--recount", "-"],
        input=fault.diff,
        cwd=folder,
        text=True,
        capture_output=True,
        env=os.environ | {"GIT_CEILING_DIRECTORIES": str(folder.parent)},
    )
    return done.returncode == 0


def prepare(fault, project, folder, say):
    """Make folder/healthy and folder/broken, of the learner's own files where the patch fits them; return whose files these are."""
    from handrail.lessons.practice import practice_project

    taught = any(word in fault.head["Run"] for word in ("dpo.py", "grpo.py"))
    source, whose = practice_project(taught, say), "the files as they were handed over"
    for side in ("healthy", "broken"):
        shutil.copytree(source, folder / side)
    own = (
        [file for file in project.glob("*.py") if (source / file.name).exists()] if project else []
    )
    if own:
        for file in own:
            shutil.copy(file, folder / "broken")
        if apply(fault, folder / "broken"):
            for file in own:
                shutil.copy(file, folder / "healthy")
            return "your own files"
        shutil.rmtree(folder / "broken")
        shutil.copytree(source, folder / "broken")
        whose += " (the change does not fit your edited ones)"
    if not apply(fault, folder / "broken"):
        raise Stop(
            f"The patch of {fault.name} does not fit the program of this version: {FAULTS / (fault.name + '.patch')}"
        )
    return whose


def run(fault, folder):
    """Run the fault's commands in a folder under the doctor; return (exit code, findings, updates, the screen's last lines)."""
    from handrail.data import file_checks
    from handrail.doctor import saved
    from handrail.doctor.watch import watch

    found, updates, printed, code = {}, 0, "", 0
    for command in fault.head["Run"].split(";"):
        words = shlex.split(command)
        if words[0] == "torchrun":
            words = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
        elif words[0].endswith(".py"):
            words = [sys.executable, *words]
        code, seen, made, _, out = watch(
            words,
            cwd=folder,
            capture=True,
            env={"CUDA_VISIBLE_DEVICES": ""} if "--cpu" in words else {},
        )
        printed += out
        updates = max(updates, made)
        for finding in seen:
            found.setdefault(finding.name, finding)
        if code:
            break
    for finding in saved.look(folder) + file_checks.look(folder):
        found.setdefault(finding.name, finding)
    return (
        code,
        list(found.values()),
        updates,
        [
            line
            for line in printed.splitlines()
            if line.strip() and not line.startswith("handrail: ")
        ],
    )


def losses(folder):
    """Return {update: (loss, loss on val or None)} of the newest log in a project."""
    logs = sorted(
        [*folder.glob("out/metrics.jsonl"), *folder.glob("out/*/metrics.jsonl")],
        key=lambda file: file.stat().st_mtime,
    )
    return (
        {
            line["step"]: (line["loss"], line.get("val_loss"))
            for line in map(json.loads, logs[-1].read_text().splitlines())
        }
        if logs
        else {}
    )


def show_losses(screen, healthy, broken):
    """Print both runs' losses at the same updates."""
    both = sorted(healthy.keys() | broken.keys())
    steps = [both[round(i * (len(both) - 1) / 5)] for i in range(6)] if len(both) > 6 else both
    word = lambda pair: (
        ""
        if pair is None
        else f"{pair[0]:8.3f}" + (f"  val {pair[1]:.3f}" if pair[1] is not None else "")
    )
    if steps:
        screen.print(f"  {'update':>8}  {'healthy':24}  broken")
    for step in dict.fromkeys(steps):
        screen.print(f"  {step:8}  {word(healthy.get(step)):24}  {word(broken.get(step))}")
    screen.print()


def show(screen, fault, project=None):
    """Show one fault from beginning to end; return True if the doctor named it."""
    from rich.syntax import Syntax

    screen.title(fault.head["Title"], fault.name)
    screen.say("What it is", fault.parts.get("What it is", ""))
    if "diff --git" not in fault.diff:
        screen.print("  This program cannot make this mistake, so there is nothing to run.\n")
        return False
    screen.console.print("[bold cyan]What was changed[/]")
    screen.console.print(
        Syntax(
            fault.diff.partition("\n--- ")[2].partition("\n")[2].strip("\n") or fault.diff,
            "diff",
            background_color="default",
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        whose = prepare(fault, project, folder, screen.print)
        screen.print(f"\nRunning twice, healthy and broken, on {whose}:  {fault.head['Run']}\n")
        runs = {side: run(fault, folder / side) for side in ("healthy", "broken")}
        curves = [losses(folder / side) for side in runs]
    screen.console.print("[bold cyan]What you would have seen[/]")
    show_losses(screen, *curves)
    if runs["broken"][0]:
        screen.print(
            "  The broken one ended with:  " + " ".join(runs["broken"][3][-1:])[:160] + "\n"
        )
    screen.say("", fault.parts.get("You would have seen", ""))
    known = {finding.name for finding in runs["healthy"][1]}
    caught = [finding for finding in runs["broken"][1] if finding.name not in known]
    screen.console.print("[bold cyan]What the doctor says of the broken one[/]")
    for finding in sorted(caught, key=lambda finding: finding.name != fault.name):
        screen.print(str(finding).partition("\n  See it happen")[0] + "\n")
    if fault.name not in {finding.name for finding in caught}:
        places = [
            HERE[place.strip()]
            for place in fault.head.get("Seen-by", "").split(",")
            if place.strip() in HERE
        ]
        screen.print(
            f"  It does not name {fault.name} from here."
            + (f" It can show in: {'; '.join(places)}." if places else "")
            + "\n"
        )
    screen.say("In real life", fault.parts.get("In real life", ""))
    return fault.name in {finding.name for finding in caught}


def offer(screen, step, project):
    """In the walk: let the learner choose one of the step's mistakes, and show it."""
    here = [fault for fault in faults().values() if fault.head["Step"] == step]
    for number, fault in enumerate(here, start=1):
        screen.print(f"  {number}  {fault.name}: {fault.head['Title']}")
    asked = screen.ask("Which one? A number, or Enter for none:") if here else ""
    if asked.isdigit() and 0 < int(asked) <= len(here):
        show(screen, here[int(asked) - 1], project)
    elif not here:
        screen.print("  No silent mistake is known for this step. All there are: handrail break")


def main(name, folder):
    """List the faults, or show the one named, on the project in a folder if there is one."""
    from handrail.project.screen import Screen

    screen, known = Screen(), faults()
    if not name:
        show_list(screen)
        return 0
    if name not in known:
        near = get_close_matches(name, known, 3, 0.4)
        raise Stop(
            f"There is no fault {name!r}."
            + (f" Near it: {', '.join(near)}." if near else "")
            + " All of them: handrail break"
        )
    project = Path(folder) if (Path(folder) / "settings.toml").exists() else None
    show(screen, known[name], project)
    return 0
