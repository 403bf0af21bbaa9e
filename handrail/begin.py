"""Open a project, or start one, and write what was typed after a command into its settings."""

import os
import platform
import re
import shlex
import sys
from difflib import get_close_matches
from pathlib import Path

import click

from handrail import launch
from handrail.data.text_files import locate
from handrail.project.plan import OPEN, check_size
from handrail.project.project import ASKED, TYPES, WHOLE, Project, Stop, check_numbers, stop
from handrail.steps import ANSWERS, LATER, OBJECTIVES, learns
from handrail.steps.card import known

STORIES = """
handrail: from data to a language model of your own.

  1  Show me how it works     a first model, from scratch, on built-in stories
  2  Write like my texts      your own notes, book, logs
  3  Answer like my file      a small open model, fine-tuned on questions and answers
"""


def found(folder, cpu=False):
    """Return the project in a folder, if this version may change it; else raise Stop."""
    project = Project(folder, cpu)
    if not project.exists:
        new = shlex.join(["handrail", "new", str(folder)])
        raise stop("no project", folder=project.folder, new=new)
    project.check_version()
    return project


def opened(folder, typed, step=""):
    """Return the project, started if there is none, after what was typed has been checked."""
    project = Project(folder, typed.cpu)
    begun = project.exists
    if begun or step:
        project = found(folder, typed.cpu)
    else:
        project.check_free()
    with_cpu = shlex.join(["handrail", *sys.argv[1:], "--cpu"])
    typed.cpu = typed.cpu or chose_cpu(project)
    if typed.json and not typed.cpu and not launch.gpu():
        raise Stop(launch.NO_GPU.format(command=with_cpu))
    typed.cpu = typed.cpu or launch.needs_cpu(with_cpu)
    project.cpu = typed.cpu
    if not begun and typed.data is None and typed.answers is None:
        choose_story(folder, typed)
    check_typed(project, typed)
    if begun:
        check_purpose(project, typed, step)
    else:
        typed.base = typed.base or (None if typed.data else OPEN)
        if outer := project.inside():
            print(f"{project.folder} is inside the git repository {outer}, and gets its own.")
        project.create()
    project.hold()
    if begun and not step:
        print(f"Continuing the project in {project.folder}.")
    if project.cpu and not chosen_on(project).exists():
        chosen_on(project).write_text("--cpu was chosen for this project, on this machine.\n")
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
    asks, story = sys.stdin.isatty() and not typed.yes, "1"
    if asks:
        print(STORIES)
        story = click.prompt("Which one?", default="1", type=click.Choice("123"))
    if story == "3":
        typed.answers = ask_source("The file with your questions and answers")
        typed.base = click.prompt("The model to start from, hub name or folder", default=OPEN)
    elif story == "2":
        typed.data = ask_source("The file or folder with your texts")
    else:
        typed.data = "village"
    words = ["handrail", "new", str(folder)]
    for name in dict.fromkeys(["data", "answers", "base", *vars(typed)]):
        value = getattr(typed, name)
        if value not in (None, False):
            words.append("--from" if name == "base" else f"--{name}")
            words += [] if value is True else [str(value)]
    if asks:
        print(f"\nThe same in one line, next time:  {shlex.join(words)}")
        activate = shlex.quote(str(Path(sys.prefix, "bin", "activate")))
        print(f"In a new terminal, first:         source {activate}\n")
    else:
        print("No --data was given: these are the built-in stories. The same command, in full:")
        print(f"{shlex.join(words)}\n")


def ask_source(question):
    """Ask until a file, a folder or the name of a hub data set is given."""

    def there(typed):
        source = typed.strip().strip("'\"")
        hub = re.fullmatch(r"[\w.-]+/[\w.-]+(:.*)?", source)
        if not hub and not Path(source).expanduser().exists():
            raise click.BadParameter(
                f"there is no {source} in {Path.cwd()}. "
                "A path from here, a full path, or a hub data set owner/name."
            )
        return source

    return click.prompt(question, value_proc=there)


# --- what is wrong is said before anything is written ---


def check_sharing(typed):
    """Raise Stop for a licence, a language or a name of a model that the hub does not take."""
    push = getattr(typed, "push", None)
    for name in ("license", "language"):
        if getattr(typed, name, None) is not None:
            setattr(typed, name, known(name, getattr(typed, name)))
    if push is not None and not names_model(push):
        raise stop("no name of the hub", name=push)


def names_model(text):
    """Return whether the hub takes it as owner/name."""
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    try:
        validate_repo_id(text)
    except HFValidationError:
        return False
    return "/" in text


def check_names(project):
    """Raise Stop for a name in settings.toml that nothing reads, and that is nearly a known one."""
    own = project.folder / "settings.py"  # its owner may have added some
    program = own.read_text(encoding="utf-8") if own.exists() else ""
    known = {*WHOLE, "lr", "compile"}.union(*(names.split() for _, names in TYPES.values()))
    for name in project.settings:
        near = get_close_matches(name, known, 1, 0.75)
        if near and name not in known and f'"{name}"' not in program:
            file = project.folder / "settings.toml"
            raise stop("no such setting", file=file, name=name, near=near[0])


def check_typed(project, typed):
    """Raise Stop for what is wrong in what was typed, or in settings.toml."""
    if empty := [name for name, value in vars(typed).items() if value == ""]:
        raise stop("nothing typed", name="from" if empty[0] == "base" else empty[0])
    check_numbers(vars(typed), "--")
    check_names(project)
    for name in ("data", "answers"):
        source = getattr(typed, name)
        if source and source != "village":
            locate(project, absolute(source), name)
    base = typed.base
    if base and not Path(base).expanduser().exists():
        if not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", base):
            raise stop("no such model", base=base, here=Path.cwd())
    check_size(project, typed.size)
    check_sharing(typed)


def check_purpose(project, typed, step):
    """Raise Stop for a source that does not belong to this project's walk, or to the step."""
    texts, finetune = project.settings.get("data"), project.command("finetune")
    answers = shlex.quote(typed.answers or "")
    if typed.answers and texts and step not in LATER:
        raise stop("answers after texts", folder=project.folder, command=finetune, source=answers)
    if typed.data and not texts:
        raise stop("texts after answers", folder=project.folder, source=shlex.quote(typed.data))
    if typed.answers and step in OBJECTIVES and not reads_pairs(step):
        dpo, name = project.command("dpo"), step.upper()
        raise stop("reads no file", name=name, source=answers, dpo=dpo, finetune=finetune)


def reads_pairs(step):
    return step in OBJECTIVES and learns(step).startswith("pairs/")


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
        name = "pairs" if reads_pairs(step) else "answers"
        why = "questions and answers to learn from"
        project.decide(name, seen_from(project, typed.answers), why)
    if typed.base:
        typed.base = absolute(typed.base)
    part = ""
    if step in OBJECTIVES:
        part = f"{step}."
    elif step in ANSWERS or not project.settings.get("data"):
        part = "finetune."
    own = {name: part + name for name in ("updates", "batch", "context", "lr", "method")}
    for name in ("column", "me", "base", "size", "seed", "license", "language", *own):
        if getattr(typed, name, None) is not None:
            project.decide(own.get(name, name), getattr(typed, name), ASKED)
