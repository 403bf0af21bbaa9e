"""The guide: takes a learner through the steps, one at a time, and checks in after each."""

import ast
import hashlib
import json
import shlex
import sys
import time
import traceback
from dataclasses import asdict
from functools import cache
from pathlib import Path

from handrail import notebook, sources
from handrail.doctor.lesson import offer
from handrail.project import PROGRAM, PROMISED, Broken, Stop, refused
from handrail.steps import ANSWERS, LATER, files, path, step

SOURCES = ("data", "answers", "pairs")  # settings that name files which others write
LARGE = 50_000_000  # bytes: a larger file is not read each time
KEYS = "Enter next · c show the code · w tell me more · b break it on purpose · r run again · u undo · q stop here"


def lesson(file):
    """Return the docstring that opens a program file: the lesson and the code cannot drift apart."""
    return ast.get_docstring(ast.parse((PROGRAM / file).read_text()))


def why(project, name):
    """Return the lesson of a step: its own, or that of the first file it adds."""
    module = step(name)
    return (
        module.WHY if hasattr(module, "WHY") else lesson(files(project, name)[0]).split("\n", 2)[2]
    )


# --- what was done, verified from what is on disk ---


def before(project, name):
    """Return the steps that a step rests on, in order."""
    steps = path(project)
    if name == "inside" and "pretrain" in steps:
        return steps[: steps.index("pretrain") + 1]
    if name in [*ANSWERS, "dpo", "grpo"] and "pretrain" in steps:
        steps = steps[: steps.index("pretrain") + 1] + ANSWERS
    return steps[: steps.index(name)] if name in steps else steps


@cache
def content(file, size, changed):
    """Return a hash of a file as it was at that size and time; of a large one only these."""
    return f"{size} {changed}" if size > LARGE else hashlib.sha256(file.read_bytes()).hexdigest()


def contents(place, kinds=None):
    """Return the names and contents of all files (of these kinds) in a folder, or of one file, as bytes."""
    found = [
        (file, file.stat())
        for file in sources.local_files(place)
        if not kinds or file.suffix in kinds
    ]
    return str(
        [
            (str(file.relative_to(place)), content(file, seen.st_size, seen.st_mtime_ns))
            for file, seen in found
        ]
    ).encode()


def fingerprint(project, name):
    """Return a hash of what the step rests on and of what it left.

    It rests on files, settings and data as they are now, its own and those of all steps before it.
    """
    digest, parts = hashlib.sha256(), [*before(project, name), name]
    for part in parts:
        for file in files(project, part):
            digest.update(
                (project.folder / file).read_bytes()
                if (project.folder / file).exists()
                else b"missing"
            )
        digest.update(
            json.dumps(
                [project.settings.get(key) for key in getattr(step(part), "USES", [])]
            ).encode()
        )
    used = {key for part in parts for key in getattr(step(part), "USES", [])}
    for source in [
        project.settings[key] for key in SOURCES if key in used and project.settings.get(key)
    ]:
        digest.update(
            contents(
                project.folder / Path(source).expanduser(),
                project.settings.get("kinds", sources.KINDS),
            )
        )
    for path in getattr(step(name), "LEAVES", []):
        digest.update(contents(project.out / path))
    return digest.hexdigest()[:16]


def record(project, name):
    """Return what was written down when the step was last taken, or None; half a note, of a full disk, is none."""
    try:
        return json.loads((project.out / "steps" / f"{name}.json").read_text())
    except (FileNotFoundError, ValueError):
        return None


def state(project, name):
    """Return "done", "failed", "changed" (since it was done) or "to do"; looks at the disk, trusts no note alone."""
    module, written = step(name), record(project, name)
    if written is None:
        return "to do"
    if any(check["verdict"] == "fail" for check in written["checks"]):
        return "failed"
    left = [project.out / path for path in getattr(module, "LEAVES", [])]
    whole = all(path.exists() for path in left) and not project.missing(files(project, name))
    return "done" if whole and written["fingerprint"] == fingerprint(project, name) else "changed"


def write_down(project, name, outcome, expected, seconds, commit):
    """Keep the outcome in out/steps/NAME.json, add its checks to out/checks.jsonl, and draw the notebook anew."""
    folder = project.out / "steps"
    folder.mkdir(parents=True, exist_ok=True)
    written = asdict(outcome) | {
        "title": step(name).TITLE,
        "why": why(project, name),
        "expect": expected,
        "commit": commit,
    }
    written |= {"seconds": round(seconds, 1), "fingerprint": fingerprint(project, name)}
    (folder / f"{name}.json").write_text(json.dumps(written, indent=1))
    with open(project.out / "checks.jsonl", "a") as file:
        for check in outcome.checks:
            line = {"step_name": name} | asdict(check)
            line["check"] = line.pop("name")
            print(json.dumps(line), file=file)
    notebook.write(project)


# --- one step ---


def promises(file, functions):
    """Return what functions of a file promise, as they were handed over; of a file that is the learner's alone, nothing."""
    if not (PROGRAM / file).exists():
        return ""
    tree = ast.walk(ast.parse((PROGRAM / file).read_text()))
    found = [
        node
        for node in tree
        if isinstance(node, ast.FunctionDef) and node.name in functions and ast.get_docstring(node)
    ]
    return "".join(
        f"\n{file} promises {node.name}({ast.unparse(node.args)}): {ast.get_docstring(node)}"
        for node in found
    )


def blame(project, error, name):
    """Return a Stop that says where the learner's own code went wrong and what it promises there, if it was theirs."""
    rests = [file for part in before(project, name) for file in files(project, part)]
    changed = project.edited(files(project, name)) or project.edited(dict.fromkeys(rests))
    if not changed:
        return None
    frames = [
        f
        for f in traceback.extract_tb(error.__traceback__)
        if Path(f.filename).parent == project.folder
    ]
    frames = [f for f in frames if Path(f.filename).name in changed] or frames
    kind = f"{type(error).__name__}: "
    if isinstance(error, Broken):
        file, functions, kind = error.file, [error.function], ""
        where = f"{file}, {error.function}"
    elif frames:
        file, functions = Path(frames[-1].filename).name, [frames[-1].name]
        where = f"{file}, line {frames[-1].lineno}, in {frames[-1].name}"
    elif isinstance(error, AttributeError) and getattr(error.obj, "__file__", "") and error.name:
        file, functions = Path(error.obj.__file__).name, [error.name]
        where = f"{file} has no {error.name}"
    else:
        file, functions, where = changed[0], [], f"after a change in {', '.join(changed)}"
    said = promises(file, functions)
    if file not in changed or not functions:
        said += "".join(promises(other, PROMISED.get(Path(other).stem, [])) for other in changed)
    return Stop(
        f"{where}: {kind}{error}{said}\n`git diff` in {project.folder} shows your changes, in {', '.join(changed)}."
    )


def hand_over(project, screen, wanted):
    """Show the files that are new, and add them on a yes."""
    for file in project.missing(wanted):
        lines = len((PROGRAM / file).read_text().splitlines())
        if screen.talks:
            screen.code(PROGRAM / file)
        screen.say(
            "New file",
            f"{file}, {lines} lines, is added to your project. It is yours: read it, change it.",
        )
        if screen.ask("Enter to add it, q to stop here:").lower() == "q":
            raise KeyboardInterrupt
        project.add([file])


def patiently(project, screen, name, work):
    """Return work(). What is in the way (a login, a driver, the disk, a broken row) is waited for on a terminal, else raised."""
    while True:
        try:
            return work()
        except Exception as error:
            stop = (
                error if isinstance(error, Stop) else blame(project, error, name) or refused(error)
            )
            if not (stop and screen.talks):
                raise stop or error
            screen.print(f"\n{stop}\n")
            if screen.ask("Fix that, then Enter to try again, q to stop here:").lower() == "q":
                raise KeyboardInterrupt


def take(project, screen, name, place):
    """Take one step: why, expect, the new file, run, measured, what it tells; return its Outcome."""
    module = step(name)
    if waiting := [other for other in before(project, name) if state(project, other) == "to do"]:
        raise Stop(
            f"The step {name} rests on {waiting[0]}, which was not taken yet. First: {project.command(waiting[0])}"
        )
    screen.title(module.TITLE, place)
    screen.say("Why", why(project, name))
    hand_over(project, screen, files(project, name))
    guess = getattr(module, "guess", lambda _: None)(project) if screen.talks else None
    guessed = screen.ask(f"Your guess? {guess}") if guess else None
    expected = patiently(project, screen, name, lambda: module.expect(project))
    screen.say("Expect", expected)
    began = time.perf_counter()
    outcome = patiently(project, screen, name, lambda: module.run(project, screen))
    screen.measured(outcome.checks)
    if guessed:
        screen.say("You guessed", guessed)
    screen.say("What this tells you", outcome.tells)
    mine = [file for file in files(project, name) if (project.folder / file).exists()]
    # what its owner edited, its owner commits
    named = [file for file in mine if file not in project.edited(mine)]
    named += ["settings.toml", *project.guides()]
    commit = project.commit(named, f"{module.TITLE}\n\n{why(project, name)}\n\n{outcome.tells}")
    commit = commit or (record(project, name) or {}).get(
        "commit"
    )  # taken again: what the first time added is still there
    write_down(project, name, outcome, expected, time.perf_counter() - began, commit)
    return outcome


def again(project, name):
    """Return the command that continues the walk in which this step is."""
    return project.command("" if name in path(project) else "finetune")


def undo(project, screen, name):
    """Take a step back: its commit is reverted, its note removed; what it made in out/ is made again next time."""
    written = record(project, name)
    if changed := [file for file in files(project, name) if project.dirty(file)]:
        raise Stop(
            f"You changed {', '.join(changed)}, and undo would lose that. Keep it first: git commit -am 'my change', or take it back: git checkout ."
        )
    if written["commit"]:
        try:
            project.git("revert", "--no-edit", written["commit"])
        except Stop as reason:
            try:
                project.git("revert", "--abort")
            except Stop:
                raise reason  # git did not begin
            raise Stop(
                f"What the step {name} added was changed in later commits, and undo would lose that. It stays as it is; `git log -p` shows the changes."
            )
    (project.out / "steps" / f"{name}.json").unlink()
    screen.say("Undone", f"The step {name} is taken back. To take it again: {again(project, name)}")


def check_in(project, screen, name):
    """Ask what is next until the learner wants to go on; return "next", "again", "undone" or "stop"."""
    while screen.talks:
        key = screen.ask(f"{KEYS}:").lower()
        if key in ("", "q"):
            return "next" if key == "" else "stop"
        if key == "r":
            return "again"
        if key == "u":
            try:
                undo(project, screen, name)
                return "undone"
            except Stop as stop:
                screen.print(f"\n{stop}\n")
        if key == "c":
            for file in files(project, name) or ["settings.py"]:
                screen.code(project.folder / file)
        if key == "w":
            screen.say("More", step(name).MORE)
        if key == "b":
            offer(screen, name, project.folder)
    return "next"


def walk(project, screen, until=None, steps=None):
    """Go through the steps (the whole walk, if none are named) from the first that is not done; return the exit code."""
    steps = steps or path(project)
    for number, name in enumerate(steps, start=1):
        now = state(project, name)
        if now == "done":
            screen.print(f"  ✓  {name}: done, verified")
        while now != "done":
            if now == "changed":
                screen.print(
                    f"  ·  {name}: something it rests on was changed since; it is taken again"
                )
            left = sum(step(later).SECONDS[project.cpu] for later in steps[number - 1 :])
            outcome = take(
                project,
                screen,
                name,
                f"{number} of {len(steps)}, about {max(1, round(left / 60))} min left",
            )
            if any(check.verdict == "fail" for check in outcome.checks):
                screen.say(
                    "Stopped",
                    f"A check of this step failed. Fix it, then continue: {again(project, name)}",
                )
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
    answers = (project.out / "finetune" / "model").exists()
    cpu = " --cpu" if project.cpu else ""
    activate = shlex.quote(str(Path(sys.prefix) / "bin" / "activate"))
    later = [f"handrail finetune{cpu}   # teach it to answer questions"]
    if answers:
        later = [
            f"handrail dpo{cpu}   # from pairs of answers: which one is better",
            f"handrail grpo{cpu}   # from verdicts on its own answers",
        ]
    screen.title("The walk is done" if answers else "The first walk is done", str(project.folder))
    screen.say(
        "You own",
        [
            f"a model: out/{'finetune/' if answers else ''}model, a plain Transformers folder",
            "a training program: the .py files here, and git log tells how it grew",
            f"the notes: {project.out / 'notebook.html'} (open it in a browser)",
        ],
    )
    screen.say(
        "Go on",
        [
            f"cd {project.typed} && source {activate}   # then `python` is the right one",
            f"python chat.py{cpu}   # talk to it",
            *later,
            f"handrail share{cpu}   # take it home: check it without handrail, write its card",
            "Change a file, run it again, see what happens. That is the whole trade.",
        ],
    )


def show_status(project):
    """Print which steps are done."""
    signs = {"done": "✓", "failed": "✗", "changed": "·", "to do": " "}
    for name in dict.fromkeys(path(project) + LATER):
        now = state(project, name)
        print(f"  {signs[now]}  {name:10} {now:8} {step(name).TITLE}")
