"""The guide: takes a learner through the steps, one at a time, and checks in after each."""

import ast
import hashlib
import json
import sys
import time
import traceback
from dataclasses import asdict
from pathlib import Path

from handrail import notebook
from handrail.project import PROGRAM, Stop
from handrail.steps import LATER, WALK, step

KEYS = "Enter next · c show the code · w tell me more · r run again · u undo · q stop here"


def lesson(file):
    """Return the docstring that opens a program file: the lesson and the code cannot drift apart."""
    return ast.get_docstring(ast.parse((PROGRAM / file).read_text()))


def why(name):
    """Return the lesson of a step."""
    module = step(name)
    return module.WHY if hasattr(module, "WHY") else lesson(module.FILES[0]).split("\n", 2)[2]


# --- what was done, verified from what is on disk ---


def fingerprint(project, name):
    """Return a hash of what the step rests on: its files as they are now, and the settings it uses."""
    module = step(name)
    parts = [(project.folder / file).read_bytes() for file in module.FILES if (project.folder / file).exists()]
    parts += [json.dumps(project.settings.get(key)).encode() for key in getattr(module, "USES", [])]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def record(project, name):
    """Return what was written down when the step was last taken, or None."""
    file = project.out / "steps" / f"{name}.json"
    return json.loads(file.read_text()) if file.exists() else None


def state(project, name):
    """Return "done", "failed", "changed" (since it was done) or "to do"; looks at the disk, trusts no note alone."""
    module, written = step(name), record(project, name)
    if written is None:
        return "to do"
    if any(check["verdict"] == "fail" for check in written["checks"]):
        return "failed"
    left = [project.out / path for path in getattr(module, "LEAVES", [])]
    whole = all(path.exists() for path in left) and not project.missing(module.FILES)
    return "done" if whole and written["fingerprint"] == fingerprint(project, name) else "changed"


def write_down(project, name, outcome, expected, seconds, commit):
    """Keep the outcome in out/steps/NAME.json, add its checks to out/checks.jsonl, and draw the notebook anew."""
    folder = project.out / "steps"
    folder.mkdir(parents=True, exist_ok=True)
    written = asdict(outcome) | {"title": step(name).TITLE, "why": why(name), "expect": expected, "commit": commit}
    written |= {"seconds": round(seconds, 1), "fingerprint": fingerprint(project, name)}
    (folder / f"{name}.json").write_text(json.dumps(written, indent=1))
    with open(project.out / "checks.jsonl", "a") as file:
        for check in outcome.checks:
            line = {"step_name": name} | asdict(check)
            line["check"] = line.pop("name")
            print(json.dumps(line), file=file)
    notebook.write(project)


# --- one step ---


def blame(project, error, files):
    """Return a Stop that says where the learner's own code went wrong and what that function promises, if it was theirs."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).parent == project.folder]
    if frames:
        where = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name}"
        file, function = Path(frames[-1].filename).name, frames[-1].name
    elif isinstance(error, AttributeError) and getattr(error.obj, "__file__", "") and error.name:
        file, function = Path(error.obj.__file__).name, error.name
        where = f"{file} has no {function}"
    elif edited := project.edited(files):
        file, function, where = edited[0], None, f"after a change in {', '.join(edited)}"
    else:
        return None
    promise = ""
    for node in ast.walk(ast.parse((PROGRAM / file).read_text())):
        if isinstance(node, ast.FunctionDef) and node.name == function and ast.get_docstring(node):
            promise = f"\n{file} promises {ast.unparse(node.args)} in {function}: {ast.get_docstring(node)}"
    return Stop(f"{where}: {type(error).__name__}: {error}{promise}\n`git diff` in {project.folder} shows your changes.")


def hand_over(project, screen, files):
    """Show the files that are new, and add them on a yes."""
    for file in project.missing(files):
        lines = len((PROGRAM / file).read_text().splitlines())
        if screen.talks:
            screen.code(PROGRAM / file)
        screen.say("New file", f"{file}, {lines} lines, is added to your project. It is yours: read it, change it.")
        if screen.ask("Enter to add it, q to stop here:").lower() == "q":
            raise KeyboardInterrupt
        project.add([file])


def patiently(project, screen, work):
    """Return work(). What is in the way (a login, a driver, the disk, a broken row) is waited for on a terminal, else raised."""
    while True:
        try:
            return work()
        except Exception as error:
            stop = error if isinstance(error, Stop) else blame(project, error, [f for name in WALK for f in step(name).FILES])
            if not (stop and screen.talks):
                raise stop or error
            screen.print(f"\n{stop}\n")
            if screen.ask("Mend that, then Enter to try again, q to stop here:").lower() == "q":
                raise KeyboardInterrupt


def take(project, screen, name, place):
    """Take one step: why, expect, the new file, run, measured, what it tells; return its Outcome."""
    module = step(name)
    screen.title(module.TITLE, place)
    screen.say("Why", why(name))
    hand_over(project, screen, module.FILES)
    guess = getattr(module, "guess", lambda _: None)(project) if screen.talks else None
    guessed = screen.ask(f"Your guess? {guess}") if guess else None
    expected = patiently(project, screen, lambda: module.expect(project))
    screen.say("Expect", expected)
    began = time.perf_counter()
    outcome = patiently(project, screen, lambda: module.run(project, screen))
    screen.measured(outcome.checks)
    if guessed:
        screen.say("You guessed", guessed)
    screen.say("What this tells you", outcome.tells)
    files = [file for file in [*module.FILES, "settings.toml"] if (project.folder / file).exists()]
    commit = project.commit(files, f"{module.TITLE}\n\n{why(name)}\n\n{outcome.tells}")
    write_down(project, name, outcome, expected, time.perf_counter() - began, commit)
    return outcome


def undo(project, screen, name):
    """Take a step back: its commit is reverted, its note removed; what it made in out/ is made again next time."""
    written = record(project, name)
    if written["commit"]:
        project.git("revert", "--no-edit", written["commit"])
    (project.out / "steps" / f"{name}.json").unlink()
    screen.say("Undone", f"The step {name} is taken back.")


def check_in(project, screen, name):
    """Ask what is next until the learner wants to go on; return "next", "again", "undone" or "stop"."""
    while screen.talks:
        key = screen.ask(f"{KEYS}:").lower()
        if key in ("", "q"):
            return "next" if key == "" else "stop"
        if key == "r":
            return "again"
        if key == "u":
            undo(project, screen, name)
            return "undone"
        if key == "c":
            for file in step(name).FILES or ["settings.py"]:
                screen.code(project.folder / file)
        if key == "w":
            screen.say("More", step(name).MORE)
    return "next"


def walk(project, screen, until=None):
    """Go through the steps from the first that is not done; return the exit code."""
    for number, name in enumerate(WALK, start=1):
        module = step(name)
        passed_over = getattr(module, "applies", lambda _: "")(project)
        if passed_over:
            screen.print(f"  –  {name}: {passed_over}")
            continue
        now = state(project, name)
        if now == "done":
            screen.print(f"  ✓  {name}: done, verified")
        while now != "done":
            if now == "changed":
                screen.print(f"  ·  {name}: something it rests on was changed since; it is taken again")
            left = sum(step(later).SECONDS[project.cpu] for later in WALK[number - 1 :])
            outcome = take(project, screen, name, f"{number} of {len(WALK)}, about {max(1, round(left / 60))} min left")
            if any(check.verdict == "fail" for check in outcome.checks):
                screen.say("Stopped", f"A check of this step failed. Mend it, then `handrail` goes on here.")
                return 1
            answer = "next" if name == "machine" else check_in(project, screen, name)
            if answer in ("stop", "undone"):
                return 0
            now = "done" if answer == "next" else "again"
        if name == until:
            return 0
    finish(project, screen)
    return 0


def finish(project, screen):
    """Say what the learner has now, and what can be done with it."""
    screen.title("The first walk is done", str(project.folder))
    screen.say("You own", [
        "a model: out/model, a plain Transformers folder",
        "a training program: the .py files here, and git log tells how it grew",
        f"the notes: {project.out / 'notebook.html'} (open it in a browser)",
    ])  # fmt: skip
    screen.say("Go on", [
        f"cd {project.folder} && source {Path(sys.prefix) / 'bin' / 'activate'}   (then `python` is the right one)",
        f"python chat.py{' --cpu' if project.cpu else ''}   talk to it",
        "handrail share   take it home: check it without handrail, write its card",
        "Change a file, run it again, see what happens. That is the whole trade.",
    ])  # fmt: skip


def show_steps(project):
    """Print where the walk stands."""
    signs = {"done": "✓", "failed": "✗", "changed": "·", "to do": " "}
    for name in WALK + LATER:
        now = state(project, name)
        print(f"  {signs[now]}  {name:10} {now:8} {step(name).TITLE}")
