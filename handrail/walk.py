"""The guide: takes a learner through the steps, one at a time, and checks in after each."""

import ast
import hashlib
import json
import os
import re
import shlex
import sys
import time
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

from rich.traceback import Traceback

from handrail import begin, launch
from handrail.data import text_files
from handrail.lessons.lessons import offer
from handrail.project import notebook
from handrail.project.project import PROGRAM, TEMPLATE, Project, Stop, read_settings, refused, stop
from handrail.project.screen import Screen
from handrail.steps import ANSWERS, LATER, OBJECTIVES, WALK, files, path, should_i_train, step
from handrail.steps.runs import read_metrics, run_folder
from handrail.steps.words import Words, shown_if

SOURCES = "data source answers pairs base".split()  # settings that name files outside the project
LARGE = 50_000_000  # bytes
QUESTIONS = {"": "Fix that, then Enter to try again", "me": "The name"}  # by what a Stop wants
KEYS = "Enter next · c code · w more · b break it · r run again · u undo · q stop:"


# --- what was done, verified from what is on disk ---


def before(project, name):
    """Return the steps that a step depends on, in order."""
    steps = path(project)
    if name == "inside" and "pretrain" in steps:
        return steps[: steps.index("pretrain") + 1]
    if name in [*ANSWERS, *OBJECTIVES] and "pretrain" in steps:
        steps = steps[: steps.index("pretrain") + 1] + ANSWERS
    if name == "share" and project.record("finetune"):
        steps = list(dict.fromkeys([*steps, *ANSWERS]))  # its exam comes first
    return steps[: steps.index(name)] if name in steps else steps


@cache
def checksum(file, size, changed):
    """Return a checksum of a file, as it was at that size and time.

    Of a large one: of its first and last megabyte, and of that time.
    """
    with open(file, "rb") as data:
        if size <= LARGE:
            return hashlib.file_digest(data, "sha256").hexdigest()
        first = data.read(2**20)
        data.seek(-(2**20), os.SEEK_END)
        return hashlib.sha256(first + data.read() + str(changed).encode()).hexdigest()


def contents(place, kinds=None):
    """Return a checksum of all files (of these kinds) in a folder, or of one; None for nothing."""
    if not place.exists():
        return None
    found = []
    for file in text_files.local_files(place):
        if not kinds or file.suffix in kinds:
            size, changed = file.stat().st_size, file.stat().st_mtime_ns
            found.append([str(file.relative_to(place)), size, checksum(file, size, changed)])
    return hashlib.sha256(json.dumps(found).encode()).hexdigest()[:16]


def so_far(project, name):
    """Return the steps up to this one that it rests on, and itself."""
    return [*before(project, name), name]


def rests_on(project, name):
    """Return what a step was made of and what it left, as it is now: {name: [value, checksum]}.

    That is files, settings and data, its own and those of all steps before it.
    """
    parts, settings, found = so_far(project, name), project.settings, {}
    for key in {key for part in parts for key in getattr(step(part), "USES", [])}:
        value, content = settings.get(key), None
        if key in SOURCES and value:
            kinds = {"base": [".json", ".safetensors"], "data": settings.get("kinds")}.get(key)
            content = contents(project.folder / Path(value).expanduser(), kinds)
        found[key] = [value, content]
    made = [file for part in parts for file in files(project, part)]
    for file in made + [f"out/{left}" for left in getattr(step(name), "LEAVES", [])]:
        place = project.folder / file
        found[file] = [place.exists(), contents(place)]
    return found


def changes(project, name):
    """Return the names of what has changed since a step was taken.

    Data that has the same content elsewhere is the same. So is data that is gone, if its name is:
    a project can be moved without it.
    """
    was, now = project.record(name).get("rests_on", {}), rests_on(project, name)
    found = [*(was.keys() ^ now.keys()), *lost(project, name)]
    for key in was.keys() & now.keys():
        compared = 0 if now[key][1] is None else 1
        if was[key][compared] != now[key][compared]:
            found.append(key)
    return sorted(set(found))


def lost(project, name):
    """Return the settings that a step chose, and the files that it left, that are gone since."""
    note = project.record(name) or {}
    left = [key for key, (was, _) in note.get("rests_on", {}).items() if key[:4] == "out/" and was]
    gone = [file for file in left if not (project.folder / file).exists()]
    return sorted(note.get("chose", {}).keys() - project.written().keys()) + gone


def state(project, name):
    """Return "done", "failed", "changed" (since it was done) or "to do", from what is on disk."""
    written = project.record(name)
    if written is None:
        return "to do"
    if any(check["verdict"] == "fail" for check in written["checks"]):
        return "failed"
    return "changed" if changes(project, name) else "done"


def write_down(project, name, outcome, said, seconds, commit):
    """Keep a step's outcome and what was said in out/steps/NAME.json; draw the notebook again.

    Its checks are added to out/checks.jsonl.
    """
    folder = project.out / "steps"
    folder.mkdir(parents=True, exist_ok=True)
    written = asdict(outcome) | said | {"commit": commit, "seconds": round(seconds, 1)}
    written["rests_on"] = rests_on(project, name)
    (folder / f"{name}.json").write_text(json.dumps(written, indent=1, default=str))
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
    used = [file for part in so_far(project, name) for file in files(project, part)]
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
    table = re.findall(r"^\| `(\w+\.py)` \| (.+) \|$", (TEMPLATE / "AGENTS.md").read_text(), re.M)
    promises = [f"{file} promises: {said}" for file, said in table if file in changed]
    return stop(
        "your change",
        error=f"{type(error).__name__}: {error}",
        changed=", ".join(changed),
        promises="\n".join(promises) or None,
        folder=here,
    )


def lesson(file):
    """Return the first paragraph of a program file: what it is for."""
    return ast.get_docstring(ast.parse((PROGRAM / file).read_text())).split("\n\n")[0]


def hand_over(project, screen, words, wanted):
    """Show the lesson of each new file and the lines that matter; add it on a yes."""
    for file in project.missing(wanted):
        text = (PROGRAM / file).read_text()
        head = f"New file: {file}, {len(text.splitlines())} lines, yours to read and change"
        screen.say(head, lesson(file))
        screen.lines(text, words.code(file))
        while key := screen.key("Enter to add it · c all of its code · q stop:", "cq"):
            if key == "q":
                raise KeyboardInterrupt
            screen.code(PROGRAM / file)
        project.add([file])


def patiently(project, screen, name, work):
    """Return work(). On a terminal, wait until what is in the way (a login, the disk) is fixed."""
    while True:
        try:
            return work()
        except Exception as error:
            problem = error if isinstance(error, Stop) else refused(error)
            problem = problem or explain_error(project, screen, error, name)
            if problem is None:
                raise
            if not screen.talks:
                raise problem from None
            screen.message(problem)
            question = QUESTIONS.get(problem.wants, "The path of the file")
            typed = screen.ask(f"{question}, or q to stop here:")
            if typed.lower() == "q":
                raise KeyboardInterrupt from None
            if problem.wants and typed:
                accept(project, screen, problem.wants, typed.strip("'\""))


def accept(project, screen, name, typed):
    """Write what was typed at a question into the settings; a file only if it is there."""
    try:
        if name == "me":
            project.decide(name, typed, "whose messages are the answers")
        else:
            text_files.locate(project, begin.absolute(typed), "answers")
            project.decide(name, begin.seen_from(project, typed), "examples to learn from")
    except Stop as problem:
        screen.message(problem)


def check_order(project, name):
    """Raise Stop if a step that this one needs was not taken, or failed a check."""
    for other in before(project, name):
        written = project.record(other)
        if written is None:
            command = project.command(other)
            raise stop("step before", name=name, first=other, command=command)
        if wrong := [check["name"] for check in written["checks"] if check["verdict"] == "fail"]:
            command = project.command(other)
            raise stop("failed before", name=name, first=other, check=wrong[0], command=command)
        if gone := ", ".join(lost(project, other)):
            command = project.command(other)
            raise stop("setting gone", name=name, first=other, gone=gone, command=command)


def take(project, screen, name, place):
    """Take one step, in the order of the screen; return its Outcome."""
    module, words = step(name), Words(project, name)
    check_order(project, name)
    if advised(project, name):
        show_advice(project, screen)
        screen.ask("Enter to continue with what you asked for:")
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

    began, before = time.perf_counter(), project.written()
    known = (project.record(name) or {}).get("chose", {})
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
    now = project.written()
    said["chose"] = {key: now[key] for key in now if key in known or now[key] != before.get(key)}
    commit = keep(project, name, said)
    write_down(project, name, outcome, said, time.perf_counter() - began, commit)
    return outcome


def advised(project, name):
    """Return True before the first step with a person's own data: should they train at all?"""
    own = not project.settings.get("world") and project.settings.get("data") != "village"
    return own and name == path(project)[1] and project.record(name) is None


def show_advice(project, screen):
    """Show what training is good for, and what the data of a project point to."""
    screen.title("Should you train at all?", "handrail explain should-i-train")
    for head, lines in should_i_train.page(project).items():
        screen.say(head, lines)


def keep(project, name, said):
    """Commit what a step added, with its why; return the commit. An edited file is its owner's."""
    mine = [file for file in files(project, name) if (project.folder / file).exists()]
    named = [file for file in mine if file not in project.edited(mine)]
    named += ["settings.toml", *project.guides()]
    message = [said["title"], *said["why"], *said["What this tells you"]]
    commit = project.commit(named, "\n\n".join(message))
    # taken again: what the first time added is still there
    return commit or (project.record(name) or {}).get("commit")


def again(project, name):
    """Return the command that continues the walk in which this step is."""
    if name in path(project):
        return project.command("")
    return project.command("finetune" if name in ANSWERS else name)


def last(project):
    """Return the step that was taken last."""
    notes = [note for note in (project.out / "steps").glob("*.json") if note.stem in WALK + LATER]
    if not notes:
        raise stop("nothing to undo", what="no step is taken", folder=project.folder)
    return max(notes, key=lambda note: note.stat().st_mtime).stem


def undo(project, screen, name):
    """Take a step back: revert its commit, remove its note; out/ is made again next time."""
    written = project.record(name)
    if written is None:
        raise stop("nothing to undo", what=f"{name} is not taken", folder=project.folder)
    if changed := [file for file in files(project, name) if project.dirty(file)]:
        raise stop("undo would lose an edit", changed=", ".join(changed))
    if written["commit"]:
        project.commit(["settings.toml"], "Settings as they are now")
        try:
            # ours: lines of settings.toml that were changed since stay
            project.git("revert", "--no-edit", "-X", "ours", written["commit"])
        except Stop as reason:
            changes = project.git("status", "--porcelain", "--untracked-files=no")
            with suppress(Stop):  # git may not have begun
                project.git("revert", "--abort")
            if changes:  # else there was nothing left of it to take back
                raise stop("undo would lose a commit", name=name, reason=reason) from reason
    (project.out / "steps" / f"{name}.json").unlink()
    said = f"The step {name} is taken back. To take it again: {again(project, name)}"
    taken = [other for other in WALK + LATER if project.record(other)]
    if resting := [other for other in taken if name in before(project, other)]:
        said += f"\n\nThese rest on it, and their scripts need its files: {', '.join(resting)}"
    screen.say("Undone", said)


def check_in(project, screen, name):
    """Ask what is next until the learner chooses; return "next", "again", "undone" or "stop"."""
    while key := screen.key(KEYS, "cwbruq"):
        if key in "rq":
            return "again" if key == "r" else "stop"
        if key == "c":
            for file in files(project, name) or ["settings.py"]:
                screen.code(project.folder / file)
        elif key == "w":
            more = Words(project, name).say("More")
            screen.say("More", "\n\n".join([*more, "Any word: `handrail explain WORD`."]))
        elif key == "b":
            offer(screen, name, project.folder)
        else:
            try:
                undo(project, screen, name)
                return "undone"
            except Stop as problem:
                screen.message(problem)
    return "next"


def walk(project, screen, steps, until=None):
    """Go through the steps from the first that is not done; return the exit code."""
    for number, name in enumerate(steps, start=1):
        now = state(project, name)
        if now == "done":
            screen.print(f"  {screen.sign('pass')}  {name}: done, verified")
        while now != "done":
            if now == "changed":
                what = ", ".join(changes(project, name))
                screen.print(screen.fill(f"·  {name} is taken again, because this changed: {what}"))
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
    for name in dict.fromkeys([*path(project), *ANSWERS]):
        records[name] = project.record(name) or {}
    answers = bool(project.record("finetune"))
    model = "out/finetune/model" if answers else "out/model"
    screen.title(words.say("Title")[0], str(project.folder))
    screen.say("What you did", [line for r in records.values() for line in r.get("recap", [])])
    texts = [records.get(name, {}).get("samples") for name in ("model", "chat")]
    if all(texts) and not answers:
        screen.side_by_side({"before training": texts[0][0], "after": texts[1][0]})
    shown = {
        "model": model,
        "absolute": str(project.folder / model),
        "prompt": project.settings.get("prompt", ""),
        "folder": project.typed,
        "activate": shlex.quote(str(Path(sys.prefix) / "bin" / "activate")),
        "notes": project.out / "notebook.html",
        "cpu": " --cpu" if project.cpu else "",
    }
    world, asked = project.settings.get("world"), project.settings.get("answers")
    shown |= shown_if(built_in=world, from_texts=not answers, from_answers=answers)
    shown |= shown_if(ready=not answers and (world or asked), own=not answers and not world)
    part = project.settings.get("finetune", {}) if answers else project.settings
    name, updates = "taught" if answers else "twice", part.get("updates")
    shown |= {"taught": None, "twice": None} | {name: updates and 2 * updates}
    screen.say("You own", words.say("You own", **shown))
    text, *code = words.say("Use it anywhere", **shown)
    screen.say("Use it anywhere", text)
    for line in code:
        screen.console.print(f"    {line.strip('`')}", markup=False, soft_wrap=True)
    screen.print()
    screen.say("What next", words.say("What next", **shown))


def states(project):
    """Return {step: its state} of the walk, and of what can come after it."""
    # inside looks into a model of one's own
    later = LATER if "pretrain" in path(project) else [name for name in LATER if name != "inside"]
    return {name: state(project, name) for name in path(project) + later}


def show_status(project):
    """Print which steps are done."""
    signs = {"done": "✓", "failed": "✗", "changed": "·", "to do": " "}
    for name, now in states(project).items():
        print(f"  {signs[now]}  {name:10} {now:8} {Words(project, name).say('Title')[0]}")


# --- for a coding agent: --json ---


def status(folder):
    """Return what `status --json` prints: how far a project is, and what comes next.

    It changes nothing. Where there is no project, the machine comes first.
    """
    sys.dont_write_bytecode = True  # of the project's own files
    project = Project(folder)
    if not project.exists:
        project.check_free()
        project.cpu = not launch.gpu()
        options = "--data village --until machine --yes --json".split()
        start = {"command": shlex.join(["handrail", "new", str(folder), *options])}
        return {"gpu": launch.gpu(), "steps": {}, "next": coming(project, "machine") | start}
    project = begin.found(folder)
    project.cpu = begin.chosen_on(project).exists()
    steps = states(project)
    to_do = [name for name in steps if steps[name] != "done"]
    if to_do[:1] and to_do[0] in path(project):
        return {"steps": steps, "next": coming(project, to_do[0])}
    can = {name for name in steps if steps[name] in ("done", "changed")}
    ready = [name for name in to_do if can.issuperset(before(project, name))]
    return {"steps": steps, "next": None, "later": [coming(project, name) for name in ready]}


def coming(project, name):
    """Return what a step says before it is taken, and what was wrong the last time."""
    words = Words(project, name)
    values = patiently(project, Screen(yes=True), name, lambda: step(name).expect(project))
    note = project.record(name) or {"checks": []}
    alone = "--until finetune " if name == "finetune" else ""  # else the exam follows
    heads = {"why": "Why", "words": "New words", "guess": "Guess", "expect": "Expect"}
    return {key: words.say(head, **values) for key, head in heads.items()} | {
        "step": name,
        "title": words.say("Title")[0],
        "should_i_train": should_i_train.page(project) if advised(project, name) else None,
        "files": {
            file: {"lesson": lesson(file), "lines": dict(words.code(file))}
            for file in files(project, name)
        },
        "failed": [check for check in note["checks"] if check["verdict"] == "fail"],
        "changed": changes(project, name) if "rests_on" in note else [],
        "command": project.command(f"{name} {alone}--yes --json"),
        "needs": needs(project, name),
    }


def needs(project, name):
    """Return the options that only a person can fill in, to be added to a step's command."""
    chosen = project.settings
    own = not chosen.get("world") or bool(chosen.get("answers"))
    if name == "examples" and own and not chosen.get("answers"):
        return "--answers FILE"
    if name == "dpo" and own and not chosen.get("pairs"):
        return "--answers PAIRS"
    if name == "share" and not chosen.get("license"):
        return "--license ID, such as mit or apache-2.0: what others may do with it"
    return None


def taken(project):
    """Return what --json says about the step that was taken last."""
    name = last(project)
    note = project.record(name)
    for check in note["checks"]:
        if check["verdict"] == "pass":  # then the screen does not say these either
            check |= {"meaning": "", "advice": ""}
    kept = ("title", "checks", "samples", "commit", "seconds")
    found = {"step": name} | {key: note[key] for key in kept}
    found |= {"tells": note["What this tells you"], "try": note["Try it"]}
    chosen = read_settings(project.folder / "settings.toml")
    found["settings"] = {setting: f"{value}: {why}" for setting, value, why in chosen}
    return found | {"answer": note["values"].get("answer"), "files": files(project, name)}
