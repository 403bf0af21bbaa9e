"""The guide: takes a learner through the steps, one at a time, and checks in after each."""

import ast
import hashlib
import json
import re
import shlex
import sys
import textwrap
import time
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

from rich.traceback import Traceback

from handrail import begin
from handrail.data import text_files
from handrail.lessons.lessons import offer
from handrail.project import notebook
from handrail.project.project import PROGRAM, TEMPLATE, Stop, refused
from handrail.steps import ANSWERS, LATER, WALK, files, path, step
from handrail.steps.runs import read_metrics, run_folder
from handrail.steps.words import Words

SOURCES = (
    "data",
    "source",
    "answers",
    "pairs",
    "base",
)  # settings that name files which others write
LARGE, SAMPLE = 50_000_000, 2**20  # bytes: of a larger file, about so many samples are read
KEYS = "Enter next · c code · w more · b break it · r run again · u undo · q stop"


# --- what was done, verified from what is on disk ---


def before(project, name):
    """Return the steps that a step depends on, in order."""
    steps = path(project)
    if name == "inside" and "pretrain" in steps:
        return steps[: steps.index("pretrain") + 1]
    if name in [*ANSWERS, "dpo", "grpo"] and "pretrain" in steps:
        steps = steps[: steps.index("pretrain") + 1] + ANSWERS
    return steps[: steps.index(name)] if name in steps else steps


@cache
def content(file, size, changed):
    """Return a hash of a file, as it was at that size and time; of a large one, of samples."""
    digest = hashlib.sha256(str(size).encode())
    with open(file, "rb") as data:
        for start in range(0, size, max(SAMPLE, size * SAMPLE // LARGE)):
            data.seek(start)
            digest.update(data.read(SAMPLE))
        data.seek(max(0, size - SAMPLE))
        digest.update(data.read())
    return digest.hexdigest()


def contents(place, kinds=None):
    """Return the names and contents of all files (of these kinds) in a folder, or of one file."""
    found = [file for file in text_files.local_files(place) if not kinds or file.suffix in kinds]
    seen = [(file, file.stat()) for file in found]
    return [
        [str(file.relative_to(place)), content(file, about.st_size, about.st_mtime_ns)]
        for file, about in seen
    ]


def source_of(project, key):
    """Return what a setting names: a hash of local files, wherever they are, or a name.

    Files that are gone changed nothing that was made of them: they count as when they were last
    read, so that a project can be moved without its data.
    """
    named = project.settings.get(key)
    place = project.folder / Path(named).expanduser() if named else None
    if not (place and place.exists()):
        known = project.out / "steps" / f"{key}.source"
        if named and known.exists():
            value, found = json.loads(known.read_text())
            return found if value == named else named
        return named
    kinds = {"base": [".json", ".safetensors"], "data": project.settings.get("kinds")}.get(key)
    return hashlib.sha256(json.dumps(contents(place, kinds)).encode()).hexdigest()


def remember_sources(project, name):
    """Keep what the sources of a step were when they were last seen, for `source_of`."""
    for key in set(SOURCES).intersection(getattr(step(name), "USES", [])):
        if named := project.settings.get(key):
            seen = json.dumps([named, source_of(project, key)])
            (project.out / "steps" / f"{key}.source").write_text(seen)


def fingerprint(project, name):
    """Return a hash of what the step depends on and of what it left.

    That is files, settings and data as they are now, its own and those of all steps before it.
    """
    digest, parts = hashlib.sha256(), [*before(project, name), name]
    for part in parts:
        for file in files(project, part):
            digest.update(
                (project.folder / file).read_bytes()
                if (project.folder / file).exists()
                else b"missing"
            )
    used = sorted({key for part in parts for key in getattr(step(part), "USES", [])})
    chosen = {
        key: source_of(project, key) if key in SOURCES else project.settings.get(key)
        for key in used
    }
    digest.update(json.dumps(chosen).encode())
    for left in getattr(step(name), "LEAVES", []):
        digest.update(json.dumps(contents(project.out / left)).encode())
    return digest.hexdigest()[:16]


def record(project, name):
    """Return what was noted when the step was last taken, or None (also for half a note)."""
    try:
        return json.loads((project.out / "steps" / f"{name}.json").read_text())
    except (FileNotFoundError, ValueError):
        return None


def state(project, name):
    """Return "done", "failed", "changed" (since it was done) or "to do", from what is on disk."""
    module, written = step(name), record(project, name)
    if written is None:
        return "to do"
    if any(check["verdict"] == "fail" for check in written["checks"]):
        return "failed"
    left = [project.out / path for path in getattr(module, "LEAVES", [])]
    whole = all(path.exists() for path in left) and not project.missing(files(project, name))
    return "done" if whole and written["fingerprint"] == fingerprint(project, name) else "changed"


def write_down(project, name, outcome, said, seconds, commit):
    """Keep a step's outcome and what was said in out/steps/NAME.json; draw the notebook again.

    Its checks are added to out/checks.jsonl.
    """
    folder = project.out / "steps"
    folder.mkdir(parents=True, exist_ok=True)
    written = asdict(outcome) | said | {"commit": commit, "seconds": round(seconds, 1)}
    written["fingerprint"] = fingerprint(project, name)
    (folder / f"{name}.json").write_text(json.dumps(written, indent=1, default=str))
    remember_sources(project, name)
    with open(project.out / "checks.jsonl", "a") as file:
        for check in outcome.checks:
            line = {"step_name": name} | asdict(check)
            line["check"] = line.pop("name")
            print(json.dumps(line), file=file)
    notebook.write(project, path(project), WALK + LATER)


# --- one step ---


def explain_error(project, screen, error, name):
    """Show where the learner's own code failed; return a Stop that says what was changed there.

    Returns None if the learner changed nothing: then the error is handrail's.
    """
    used = [file for part in [*before(project, name), name] for file in files(project, part)]
    changed = project.edited(dict.fromkeys(used))
    if not changed:
        return None
    own, here = error.__traceback__, project.folder
    while own and Path(own.tb_frame.f_code.co_filename).parent != here:
        own = own.tb_next  # down to the first line of the learner's
    if own:
        libraries = [sys.prefix, str(PROGRAM.parent)]
        shown = Traceback.from_exception(type(error), error, own, suppress=libraries)
        screen.console.print(shown)
    table = (TEMPLATE / "AGENTS.md").read_text()
    lines = [f"{type(error).__name__}: {error}", f"You changed {', '.join(changed)}."]
    for file in changed:
        if promise := re.search(rf"^\| `{file}` \| (.+) \|$", table, re.M):
            lines.append(f"{file} promises: {promise[1]}")
    return Stop("\n".join([*lines, f"`git diff` in {here} shows your changes."]))


def hand_over(project, screen, words, wanted):
    """Show the lesson of each new file and the lines that matter; add it on a yes."""
    for file in project.missing(wanted):
        text = (PROGRAM / file).read_text()
        lesson = ast.get_docstring(ast.parse(text)).split("\n\n")[0]
        head = f"New file: {file}, {len(text.splitlines())} lines, yours to read and change"
        screen.say(head, lesson)
        screen.lines(text, words.code(file))
        answer = ""
        while screen.talks:
            answer = screen.ask("Enter to add it · c all of its code · q stop:").lower()
            if answer == "c":
                screen.code(PROGRAM / file)
            elif answer in ("", "q"):
                break
            else:
                screen.unknown(answer)
        if answer == "q":
            raise KeyboardInterrupt
        project.add([file])


def readable(stop, width):
    """Return a message wrapped to a width, and commands (lines that are indented) as they are."""
    lines = str(stop).splitlines()
    return "\n".join(
        line
        if line.startswith("  ")
        else textwrap.fill(line, width, break_long_words=False, break_on_hyphens=False)
        for line in lines
    )


def patiently(project, screen, name, work):
    """Return work(). On a terminal, wait until what is in the way (a login, the disk) is fixed."""
    while True:
        try:
            return work()
        except Exception as error:
            stop = error if isinstance(error, Stop) else refused(error)
            stop = stop or explain_error(project, screen, error, name)
            if stop is None:
                raise
            if not screen.talks:
                raise stop from None
            screen.console.print(
                f"\n{readable(stop, screen.width)}\n", markup=False, soft_wrap=True
            )
            typed = screen.ask(
                {"me": "The name, or q to stop here:"}.get(
                    stop.wants, "The path of the file, or q to stop here:"
                )
                if stop.wants
                else "Fix that, then Enter to try again, q to stop here:"
            )
            if typed.lower() == "q":
                raise KeyboardInterrupt from None
            if stop.wants and typed:
                accept(project, screen, stop.wants, typed)


def accept(project, screen, name, typed):
    """Write a source that was typed at a question into the settings, if there is such a one."""
    if name == "me":
        return project.decide(name, typed, "whose messages are the answers")
    source = typed
    with suppress(ValueError):  # quotes that do not close
        words = shlex.split(typed)  # a path may be typed in quotes, as for a shell
        source = words[0] if len(words) == 1 else typed
    try:
        text_files.locate(project, begin.absolute(source), "answers")
    except Stop as stop:
        screen.print(f"\n{stop}\n")
    else:
        project.decide(name, begin.seen_from(project, source), "examples to learn from")


def take(project, screen, name, place):
    """Take one step, in the order of the screen; return its Outcome."""
    module, words = step(name), Words(project, name)
    if waiting := [other for other in before(project, name) if state(project, other) == "to do"]:
        raise Stop(
            f"The step {name} needs {waiting[0]}, which was not taken yet. "
            f"First: {project.command(waiting[0])}"
        )
    said = {"title": words.say("Title")[0], "why": words.say("Why")}
    screen.title(said["title"], place)
    screen.say("Why", "\n\n".join(said["why"]))
    values = patiently(project, screen, name, lambda: module.expect(project))
    said["words"] = words.say("New words", **values)
    if said["words"]:
        screen.say("New words", said["words"])
    guess = words.say("Guess", **values)
    guessed = screen.ask(f"Your guess? {guess[0]}") if guess else ""
    said["expect"] = words.say("Expect", **values)
    screen.say("Expect", said["expect"])
    hand_over(project, screen, words, files(project, name))

    began = time.perf_counter()
    outcome = patiently(project, screen, name, lambda: module.run(project, screen))
    outcome.values = values | outcome.values
    screen.measured(outcome.checks)
    metrics = read_metrics(run_folder(project, name))
    for caption, plot in outcome.plots.items():
        screen.picture(caption, plot, metrics)
    if guessed and "answer" in outcome.values:
        screen.say("Your guess", f"You guessed {guessed}. Measured: {outcome.values['answer']}.")
    for part in ("What this tells you", "Try it"):
        said[part] = words.say(part, **outcome.values)
        if said[part]:
            screen.say(part, "\n\n".join(said[part]))
    said["recap"] = words.say("Recap", **outcome.values)
    commit = keep(project, name, said)
    write_down(project, name, outcome, said, time.perf_counter() - began, commit)
    return outcome


def keep(project, name, said):
    """Commit what a step added, with its why; return the commit. An edited file is its owner's."""
    mine = [file for file in files(project, name) if (project.folder / file).exists()]
    named = [file for file in mine if file not in project.edited(mine)]
    named += ["settings.toml", *project.guides()]
    message = [said["title"], *said["why"], *said["What this tells you"]]
    commit = project.commit(named, "\n\n".join(message))
    # taken again: what the first time added is still there
    return commit or (record(project, name) or {}).get("commit")


def again(project, name):
    """Return the command that continues the walk in which this step is."""
    return project.command("" if name in path(project) else "finetune")


def last(project):
    """Return the step that was taken last."""
    notes = [note for note in (project.out / "steps").glob("*.json") if note.stem in WALK + LATER]
    if not notes:
        raise Stop(f"There is nothing to undo: no step is taken in {project.folder}.")
    return max(notes, key=lambda note: note.stat().st_mtime).stem


def undo(project, screen, name):
    """Take a step back: revert its commit, remove its note; out/ is made again next time."""
    written = record(project, name)
    if written is None:
        raise Stop(f"There is nothing to undo: the step {name} is not taken.")
    if changed := [file for file in files(project, name) if project.dirty(file)]:
        raise Stop(
            f"You changed {', '.join(changed)}, and undo would lose that. Keep it first: "
            "git commit -am 'my change', or take it back: git checkout ."
        )
    if written["commit"]:
        try:
            project.git("revert", "--no-edit", written["commit"])
        except Stop as reason:
            try:
                project.git("revert", "--abort")
            except Stop:
                raise reason from None  # git did not begin
            raise Stop(
                f"What the step {name} added was changed in later commits, and undo would lose "
                "that. It stays as it is; `git log -p` shows the changes."
            ) from reason
    (project.out / "steps" / f"{name}.json").unlink()
    screen.say("Undone", f"The step {name} is taken back. To take it again: {again(project, name)}")


def check_in(project, screen, name):
    """Ask what is next until the learner chooses; return "next", "again", "undone" or "stop"."""
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
        elif key == "c":
            for file in files(project, name) or ["settings.py"]:
                screen.code(project.folder / file)
        elif key == "w":
            more = Words(project, name).say("More")
            screen.say("More", "\n\n".join([*more, "Any word: `handrail explain WORD`."]))
        elif key == "b":
            offer(screen, name, project.folder)
        else:
            screen.unknown(key)
    return "next"


def walk(project, screen, until=None, steps=None):
    """Go through the steps from the first that is not done; return the exit code.

    All steps of this project's walk, if none are named.
    """
    steps = steps or path(project)
    for number, name in enumerate(steps, start=1):
        now = state(project, name)
        if now == "done":
            remember_sources(project, name)
            screen.print(f"  {screen.sign('pass')}  {name}: done, verified")
        while now != "done":
            if now == "changed":
                screen.print(f"  ·  {name}: something it depends on has changed; it is taken again")
            outcome = take(project, screen, name, f"{number} of {len(steps)}")
            if any(check.verdict == "fail" for check in outcome.checks):
                screen.say(
                    "Stopped",
                    f"A check of this step failed. Fix it, then continue: `{again(project, name)}`",
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
    """Tie the steps together, and say what can be done now."""
    words, records = Words(project, "end"), {}
    for name in path(project):
        records[name] = record(project, name) or {}
    answers = (project.out / "finetune" / "model").exists()
    model = "out/finetune/model" if answers else "out/model"
    screen.title(words.say("Title")[0], str(project.folder))
    screen.say("What you did", [line for r in records.values() for line in r.get("recap", [])])
    texts = [records.get(name, {}).get("samples") for name in ("model", "chat")]
    if all(texts):
        screen.side_by_side({"before training": texts[0][0], "after": texts[1][0]})
    shown = {
        "model": model,
        "absolute": str(project.folder / model),
        "prompt": project.settings.get("prompt", ""),
        "folder": project.typed,
        "activate": shlex.quote(str(Path(sys.prefix) / "bin" / "activate")),
        "notes": project.out / "notebook.html",
        "cpu": " --cpu" if project.cpu else "",
        "built_in": "" if project.settings.get("world") else None,
        "from_texts": None if answers else "",
        "from_answers": "" if answers else None,
    }
    screen.say("You own", words.say("You own", **shown))
    text, *code = words.say("Use it anywhere", **shown)
    screen.say("Use it anywhere", text)
    for line in code:
        screen.console.print(f"    {line.strip('`')}", markup=False, soft_wrap=True)
    screen.print()
    screen.say("What next", words.say("What next", **shown))


def show_status(project):
    """Print which steps are done."""
    signs = {"done": "✓", "failed": "✗", "changed": "·", "to do": " "}
    for name in dict.fromkeys(path(project) + LATER):
        now = state(project, name)
        print(f"  {signs[now]}  {name:10} {now:8} {Words(project, name).say('Title')[0]}")
