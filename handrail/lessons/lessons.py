"""`handrail break [FAULT] [DIR]`: a silent mistake, shown happening, and what catches it.

A program runs twice, healthy and broken, side by side.
"""

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

from rich.syntax import Syntax

from handrail.lessons.practice import practice_project
from handrail.project.project import stop
from handrail.project.screen import Screen

FAULTS = Path(__file__).parent / "faults"
PLACES = {
    "walk": "the walk's own checks",
    "files": "handrail doctor, on the files",
    "watch": "handrail watch, while it runs",
    "line": "a Doctor in the loop",
}


@dataclass
class Fault:
    """One file of faults/: a head, three paragraphs, a patch."""

    name: str
    head: dict  # Number, Step, Title, Run, Seen-by
    parts: dict  # "What it is", "You would have seen", "In real life"
    diff: str

    @property
    def number(self):
        return int(self.head["Number"])


def read(file):
    """Return the Fault that a file holds."""
    text, _, diff = file.read_text(encoding="utf-8").partition("\n---\n")
    head, *paragraphs = text.split("\n\n")
    pairs = [" ".join(part.split()).split(": ", 1) for part in paragraphs if ":" in part]
    lines = [line.split(": ", 1) for line in head.splitlines()]
    return Fault(file.stem, dict(lines), dict(pairs), diff)


def faults():
    """Return all faults, by name, in the catalogue's order."""
    found = sorted(map(read, FAULTS.glob("*.patch")), key=lambda fault: fault.number)
    return {fault.name: fault for fault in found}


def meanings():
    """Return {name: what it is, in words} of all faults, for `handrail explain`."""
    return {
        name: f"{fault.parts['What it is']}\n\nIn real life: {fault.parts['In real life']}\n\n"
        f"See it happen: handrail break {name}"
        for name, fault in faults().items()
    }


def show_list(screen):
    """Print the faults by the step in which they are made."""
    screen.print("Silent mistakes of training: nothing crashes, the loss looks normal, the model")
    screen.print("is bad. handrail break NAME shows one happening, and what catches it.\n")
    known = list(faults().values())
    for step in dict.fromkeys(fault.head["Step"] for fault in known):
        screen.head(step)
        for fault in known:
            if fault.head["Step"] == step:
                screen.print(f"  {fault.name:30} {fault.head['Title']}")


# --- run it twice ---


def apply(fault, folder):
    """Apply the patch in a folder; return False if it does not fit."""
    above = {"GIT_CEILING_DIRECTORIES": str(folder.parent)}  # not the repository around it
    how = {"cwd": folder, "text": True, "capture_output": True, "env": os.environ | above}
    done = subprocess.run(["git", "apply", "--recount", "-"], input=fault.diff, **how)
    return done.returncode == 0


def prepare(fault, project, folder, say):
    """Make folder/healthy and folder/broken; return whose files these are.

    They are the learner's own, where the patch fits them.
    """
    taught = any(word in fault.head["Run"] for word in ("dpo.py", "grpo.py"))
    source, broken = practice_project(taught, say), folder / "broken"
    shutil.copytree(source, folder / "healthy")
    shutil.copytree(source, broken)
    files = project.glob("*.py") if project else []
    own = [file for file in files if (source / file.name).exists()]
    for file in own:
        shutil.copy(file, broken)
    fits = apply(fault, broken)
    if fits and own:
        for file in own:
            shutil.copy(file, folder / "healthy")
        return "your own files"
    if own:
        shutil.rmtree(broken)
        shutil.copytree(source, broken)
        fits = apply(fault, broken)
    if not fits:
        raise stop("fault does not fit", name=fault.name)
    edited = " (the change does not fit your edited ones)" if own else ""
    return f"the files as they were handed over{edited}"


def run(fault, folder):
    """Run the fault's commands in a folder under the doctor, up to the first that fails.

    Return (exit code, findings, lines that were printed).
    """
    from handrail.data import file_checks
    from handrail.doctor import saved
    from handrail.doctor.watch import watch

    found, lines = {}, []
    for command in fault.head["Run"].split(";"):
        words = shlex.split(command)
        if words[0] == "torchrun":
            words = [sys.executable, "-m", "torch.distributed.run", *words[1:]]
        elif words[0].endswith(".py"):
            words = [sys.executable, *words]
        env = {"CUDA_VISIBLE_DEVICES": ""} if "--cpu" in words else {}
        code, seen, *_, printed = watch(words, cwd=folder, capture=True, env=env)
        lines += [line for line in printed.splitlines() if line.strip()]
        for finding in seen:
            found.setdefault(finding.name, finding)
        if code:
            break
    for finding in saved.look(folder) + file_checks.look(folder):
        found.setdefault(finding.name, finding)
    own = [line for line in lines if not line.startswith("handrail: ")]
    return code, list(found.values()), own


def losses(folder):
    """Return {update: "loss  val ..."} of the newest log in a project."""
    logs = [*folder.glob("out/metrics.jsonl"), *folder.glob("out/*/metrics.jsonl")]
    if not logs:
        return {}
    shown = {}
    for text in max(logs, key=lambda file: file.stat().st_mtime).read_text().splitlines():
        line = json.loads(text)
        val = f"  val {line['val_loss']:.3f}" if line.get("val_loss") is not None else ""
        shown[line["step"]] = f"{line['loss']:8.3f}{val}"
    return shown


# --- show it ---


def show_losses(screen, healthy, broken):
    """Print both runs' losses at the same six updates."""
    both = sorted(healthy.keys() | broken.keys())
    if both:
        screen.print(f"  {'update':>8}  {'healthy':24}  broken")
    for step in dict.fromkeys(both[round(i * (len(both) - 1) / 5)] for i in range(6) if both):
        screen.print(f"  {step:8}  {healthy.get(step, ''):24}  {broken.get(step, '')}")
    screen.print()


def show(screen, fault, project=None):
    """Show one fault from beginning to end; return True if the doctor named it."""
    screen.title(fault.head["Title"], fault.name)
    screen.say("What it is", fault.parts.get("What it is", ""))
    screen.head("What was changed")
    change = fault.diff.partition("\n--- ")[2].partition("\n")[2].strip("\n")
    screen.console.print(Syntax(change, "diff", background_color="default", word_wrap=True))
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        whose = prepare(fault, project, folder, screen.print)
        screen.print(f"\nRunning twice, healthy and broken, on {whose}:  {fault.head['Run']}\n")
        _, usual, _ = run(fault, folder / "healthy")
        code, findings, lines = run(fault, folder / "broken")
        curves = losses(folder / "healthy"), losses(folder / "broken")
    screen.head("What you would have seen")
    show_losses(screen, *curves)
    if code and lines:
        screen.print(f"  The broken one ended with:  {lines[-1][:160]}\n")
    screen.say("", fault.parts.get("You would have seen", ""))
    known = {finding.name for finding in usual}
    caught = {finding.name: finding for finding in findings if finding.name not in known}
    named = show_findings(screen, fault, caught)
    screen.say("In real life", fault.parts.get("In real life", ""))
    return named


def show_findings(screen, fault, caught):
    """Print what the doctor found in the broken run alone; return True if it named the fault."""
    screen.head("What the doctor says of the broken one")
    for name in sorted(caught, key=lambda name: name != fault.name):
        screen.print(str(caught[name]).partition("\n  See it happen")[0] + "\n")
    if fault.name in caught:
        return True
    seen_by = [place.strip() for place in fault.head.get("Seen-by", "").split(",")]
    places = "; ".join(PLACES[place] for place in seen_by if place in PLACES)
    where = f" It can show in: {places}." if places else ""
    screen.print(f"  It does not name {fault.name} from here.{where}\n")
    return False


def offer(screen, step, project):
    """In the walk: let the learner choose one of the step's mistakes, and show it."""
    here = [fault for fault in faults().values() if fault.head["Step"] == step]
    if not here:
        screen.print("  No silent mistake can be shown at this step. All there are: handrail break")
        return
    for number, fault in enumerate(here, start=1):
        screen.print(f"  {number}  {fault.name}: {fault.head['Title']}")
    asked = screen.ask("Which one? A number, or Enter for none:")
    if asked.isdigit() and 0 < int(asked) <= len(here):
        show(screen, here[int(asked) - 1], project)


def main(name, folder):
    """List the faults, or show the one named, on the project in a folder if there is one."""
    screen, known = Screen(), faults()
    if not name:
        show_list(screen)
        return 0
    if name not in known:
        near = ", ".join(get_close_matches(name, known, 3, 0.4)) or None
        raise stop("no such fault", name=name, near=near)
    project = Path(folder) if (Path(folder) / "settings.toml").exists() else None
    show(screen, known[name], project)
    return 0
