"""Open a project, or start one, and write what was typed after a command into its settings."""

import math
import os
import platform
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path

from handrail import launch
from handrail.data.text_files import locate
from handrail.project.plan import OPEN, sizes
from handrail.project.project import ASKED, Project, Stop
from handrail.steps import ANSWERS, LATER

STORIES = """
handrail: from data to a language model of your own.

  1  Show me how it works     a first model, from scratch, on built-in stories
  2  Write like my texts      your own notes, book, logs
  3  Answer like my questions and answers     a small open model, fine-tuned on your file
"""


def found(folder, cpu=False):
    """Return the project in a folder; raise Stop if there is none."""
    project = Project(folder, cpu)
    if not project.exists:
        new = shlex.join(["handrail", "new", str(folder)])
        raise Stop(f"{project.folder} holds no project yet. This starts one: {new}")
    return project


def opened(folder, typed, step=""):
    """Return the project, started if there is none; what was typed is in its settings."""
    project = (found if step else Project)(folder, typed.cpu)
    begun = project.exists
    if begun:
        project.check_version()
    else:
        project.check_free()
    if not typed.cpu:
        typed.cpu = chose_cpu(project) or launch.needs_cpu(
            shlex.join(["handrail", *sys.argv[1:], "--cpu"])
        )
    project.cpu = typed.cpu
    if not begun and not typed.data and not typed.answers:
        choose_story(folder, typed)
    check_typed(project, typed)
    if begun:
        check_begun(project, typed, step)
        project.hold()
        if not step:
            print(f"Continuing the project in {project.folder}.")
    else:
        if not typed.data:
            typed.base = typed.base or OPEN
        confirm_repository(project, typed)
        project.create()
        project.hold()
    if project.cpu and not chosen_on(project).exists():
        chosen_on(project).write_text("--cpu was chosen for this project, on this machine.\n")
    write_down(project, typed, step)
    return project


def chosen_on(project):
    """Return the file that tells that a person chose the CPU for this project, on this machine."""
    return project.out / "steps" / f"cpu-{platform.node()}"


def chose_cpu(project):
    """Return True, and say so, if a person chose the CPU here before and there is still no GPU."""
    chose = chosen_on(project).exists() and not launch.gpu()
    if chose:
        print("On the CPU, as you chose for this project before: this machine has no GPU.")
    return chose


# --- a new project ---


def choose_story(folder, typed):
    """Ask which story is the learner's, and print the command that says the same."""
    asks = sys.stdin.isatty() and not typed.yes
    if asks:
        print(STORIES)
    story = input("Which one? [1] ").strip() if asks else "1"
    if story == "3":
        typed.answers = ask_source("The file with your questions and answers")
        named = input(f"The model to start from, hub name or folder [{OPEN}]: ").strip()
        typed.base = named or OPEN
    elif story == "2":
        typed.data = ask_source("The file or folder with your texts")
    else:
        typed.data = "village"
    words = ["handrail", "new", str(folder)]
    for name in dict.fromkeys(["data", "answers", "base", *vars(typed)]):
        value = getattr(typed, name)
        option = "--from" if name == "base" else f"--{name}"
        if value is True:
            words.append(option)
        elif value is not None and value is not False:
            words += [option, str(value)]
    if asks:
        print(f"\nThe same in one line, next time:  {shlex.join(words)}")
        activate = shlex.quote(str(Path(sys.prefix, "bin", "activate")))
        print(f"In a new terminal, first:         source {activate}\n")
    else:
        print("No --data was given: these are the built-in stories. The same command, in full:")
        print(f"{shlex.join(words)}\n")


def ask_source(question):
    """Ask until a file, a folder or the name of a hub data set is given."""
    while True:
        source = input(f"{question}: ").strip().strip("'\"")
        if source and Path(source).expanduser().exists():
            return source
        if re.fullmatch(r"[\w.-]+/[\w.-]+(:.*)?", source):
            return source
        print(
            f"There is no {source or 'file of that name'} in {Path.cwd()}. "
            "A path from here, a full path, or a hub data set owner/name."
        )


def confirm_repository(project, typed):
    """Ask before a project is made inside somebody's git repository."""
    outer = project.inside()
    if outer and sys.stdin.isatty() and not typed.yes:
        print(
            f"{project.folder} is inside the git repository {outer}.\n"
            "The project gets a history of its own; nothing is committed in the other one."
        )
        if input("Enter to continue, q to stop: ").strip().lower() == "q":
            raise KeyboardInterrupt


# --- what is wrong is said before anything is written ---


def check_numbers(values, place):
    """Raise Stop for a number that no run can begin with."""
    for name in ("updates", "batch", "context", "lr", "seed"):
        value = values.get(name)
        wanted = "number" if name == "lr" else "whole number"
        right = isinstance(value, (int, float) if name == "lr" else int)
        if right and not 0 < value < math.inf:
            right = name == "seed" and value == 0
        if value is not None and not right:
            raise Stop(f"{place}{name} = {value!r}: it has to be a {wanted} above 0.")


def check_typed(project, typed):
    """Raise Stop for what is wrong in what was typed."""
    check_numbers(vars(typed), "--")
    for name in ("data", "answers"):
        source = getattr(typed, name)
        if source and source != "village":
            locate(project, absolute(source), name)
    base = typed.base
    if base and not Path(base).expanduser().exists():
        if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", base):
            raise Stop(
                f"There is no folder {base!r} in {Path.cwd()}, and it is not the name "
                "of a model on the hub (owner/name). Check it with `ls`."
            )
    size = typed.size or project.settings.get("size", "auto")
    with suppress(SyntaxError):  # a model.py that cannot be read is named by its step
        if size not in ["auto", *sizes(project)]:
            raise Stop(
                f"There is no size {size!r}. The sizes: {' '.join(sizes(project))}, "
                "or auto (chosen from data and machine)."
            )


def check_begun(project, typed, step):
    """Raise Stop for settings that no run can begin with, and for a source of another walk."""
    settings, file = project.settings, project.folder / "settings.toml"
    check_numbers(settings, f"{file}: ")
    for part, values in settings.items():
        if isinstance(values, dict):
            check_numbers(values, f"{file}: {part}.")
    if typed.answers and settings.get("data") and step not in LATER:
        raise Stop(
            f"{project.folder} has learned from texts first. To teach it answers as well: "
            f"{project.command('finetune')} --answers {shlex.quote(typed.answers)}"
        )
    if typed.data and not settings.get("data"):
        raise Stop(
            f"{project.folder} began with questions and answers. Texts need a project of "
            f"their own: handrail new my-texts --data {shlex.quote(typed.data)}"
        )
    if typed.answers and step == "grpo":
        raise Stop(
            f"GRPO reads no file, so not {typed.answers} either: it asks the questions of the "
            "fine-tuning, in out/chats. Type the command without --answers.\nTo learn from that "
            f"file: {project.command('dpo')} for pairs, {project.command('finetune')} for "
            "questions and answers."
        )


# --- written into settings.toml ---


def absolute(source):
    """Return a path that is right in any folder; the name of something on the hub stays."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def seen_from(project, source):
    """Return a path as seen from the project, so that both can be copied to another machine."""
    if not Path(source).expanduser().exists():
        return source
    return os.path.relpath(absolute(source), project.folder)


def write_down(project, typed, step):
    """Write what was typed into the settings; numbers go to the part of the step they are for."""
    if typed.data:
        project.decide("data", seen_from(project, typed.data), "where the texts come from")
    if typed.answers:
        name = "pairs" if step == "dpo" else "answers"
        why = "questions and answers to learn from"
        project.decide(name, seen_from(project, typed.answers), why)
    if typed.base:
        typed.base = absolute(typed.base)
    part = ""
    if step in ("dpo", "grpo"):
        part = f"{step}."
    elif step in ANSWERS or not project.settings.get("data"):
        part = "finetune."
    own = {name: part + name for name in ("updates", "batch", "context", "lr", "method")}
    for name in ("column", "me", "base", "size", "seed", *own):
        if getattr(typed, name) is not None:
            project.decide(own.get(name, name), getattr(typed, name), ASKED)
