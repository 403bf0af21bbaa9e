"""The command line. Nothing heavy is imported before it is needed: `handrail --help` answers at once."""

import argparse
import math
import os
import re
import sys
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path

from handrail import __version__, machine
from handrail.steps import ANSWERS, LATER, OPEN, WALK

HELP = """handrail takes you from data to a language model and a training program of your own, one step at a time.

  handrail                     start the walk in ./first-model, or go on with it
  handrail my-model --data notes/          the same, on your own texts
  handrail my-model --data notes/ --from HuggingFaceTB/SmolLM2-135M     go on training an open model
  handrail my-helper --answers qa.jsonl    teach an open model to answer as your file does (--from names the model)
  handrail finetune [DIR]      after the walk: teach your own model to answer; then: handrail dpo, handrail grpo
  handrail steps [DIR]         where the walk stands
  handrail STEP [DIR]          one step alone: {steps}
  handrail rehearse ...        memory, GPUs, time and cost of a run, before it: handrail rehearse --help
  handrail rent ...            the long run on a bigger machine: the ways, and what each is for
  handrail explain WORD        what a word means
  handrail watch COMMAND ...   run any training program, unchanged, with a doctor beside it
  handrail doctor DIR          look at a project, a saved model or a trainer's folder; or --model M --data D, before a run
  handrail break [FAULT]       the silent mistakes of training, shown happening to your own files
"""


def parser():
    """Return the parser of the one command line there is."""
    p = argparse.ArgumentParser(
        "handrail",
        description=HELP.format(steps=" ".join(WALK + LATER)),
        formatter_class=argparse.RawTextHelpFormatter,
        usage="handrail [DIR | STEP [DIR] | steps [DIR] | explain WORD] [options]",
    )
    p.add_argument("words", nargs="*", help=argparse.SUPPRESS)
    p.add_argument(
        "--data",
        help="village (the built-in world), a file, a folder, or a hub data set owner/name[:config[:split]]",
    )
    p.add_argument(
        "--answers",
        help="questions and answers: .jsonl .json .csv .parquet, or a hub data set; for dpo: pairs",
    )
    p.add_argument(
        "--method",
        choices=["full", "lora"],
        help="of fine-tuning; default: full for your own model, lora for one that others trained",
    )
    p.add_argument("--column", help="the column of a table that holds the text")
    p.add_argument("--from", dest="base", help="a pretrained model to go on from: hub id or folder")
    p.add_argument("--size", help="1m 5m 25m 85m 300m 1b; default: chosen from data and machine")
    p.add_argument("--cpu", action="store_true", help="use the CPU, knowing that it is slow")
    p.add_argument(
        "--yes", action="store_true", help="do not ask, go on after every step that passes"
    )
    p.add_argument("--until", choices=[*WALK, *LATER], help="stop after this step", metavar="STEP")
    for name, kind in (
        ("updates", int),
        ("batch", int),
        ("context", int),
        ("lr", float),
        ("seed", int),
    ):
        p.add_argument(f"--{name}", type=kind, help="for every script; written into settings.toml")
    p.add_argument("--version", action="version", version=__version__)
    return p


STORIES = """
handrail: from data to a language model of your own.

  1  Show me how it works     a first model, from nothing, on a small built-in world
  2  Write like my texts      your own notes, book, logs
  3  Answer like my questions and answers     a small open model, fine-tuned on your file
"""


def ask_source(question):
    """Ask until a file, a folder or a name of the hub (owner/name) is given."""
    while (
        not Path(source := input(question).strip().strip("'\"")).expanduser().exists() or not source
    ):
        if re.fullmatch(r"[\w.-]+/[\w.-]+(:.*)?", source):
            return source
        print(
            f"There is no {source or 'file of that name'} here ({Path.cwd()}). A path from here, a full path, or a hub data set owner/name."
        )
    return source


def first_screen(options):
    """Ask which story is the learner's, and print the command that would have said the same."""
    print(STORIES)
    story = input("Which one? [1] ").strip()
    if story == "3":
        options.answers = ask_source(
            "The file with your questions and answers (.jsonl .json .csv .parquet): "
        )
        options.base = (
            input(f"The model to start from, hub name or folder [{OPEN}]: ").strip() or OPEN
        )
    elif story == "2":
        options.data = ask_source(
            "The file or folder with your texts (.txt .md .jsonl .json .csv .parquet): "
        )
    else:
        options.data = "village"
    source = (
        f"--answers {options.answers} --from {options.base}"
        if options.answers
        else f"--data {options.data}"
    )
    command = f"handrail {options.words[0] if options.words else 'first-model'} {source}"
    print(f"\nThe same in one line, next time:  {command}{' --cpu' if options.cpu else ''}")
    print(f"In a new terminal, first:         source {Path(sys.prefix) / 'bin' / 'activate'}\n")


def folder(options):
    """Return the folder that is meant: the one named, the current one if it is a project, else ./first-model."""
    return (
        options.words[0]
        if options.words
        else "."
        if Path("settings.toml").exists()
        else "first-model"
    )


def absolute(source):
    """Return a path so that it holds from any folder; a name of the hub stays as it is."""
    path = Path(source).expanduser()
    return str(path.resolve()) if path.exists() else source


def seen_from(project, source):
    """Return a path as seen from the project, so that both may be copied to another machine together."""
    return (
        os.path.relpath(absolute(source), project.folder)
        if Path(source).expanduser().exists()
        else source
    )


def check_numbers(values, place):
    """Raise Stop for a number with which no run can begin."""
    from handrail.project import Stop

    for name in ("updates", "batch", "context", "lr", "seed"):
        value = values.get(name)
        kind = (int, float) if name == "lr" else int
        if value is not None and not (
            isinstance(value, kind) and (0 < value < math.inf or name == "seed" and value == 0)
        ):
            raise Stop(
                f"{place}{name} = {value!r}: it has to be a {'' if name == 'lr' else 'whole '}number above 0."
            )


def check_flags(options, project):
    """Raise Stop for what is wrong in what was typed, before any of it is written down."""
    from handrail.plan import sizes
    from handrail.project import Stop
    from handrail.sources import locate

    check_numbers(vars(options), "--")
    for flag in ("data", "answers"):
        if (source := getattr(options, flag)) and source != "village":
            locate(project, absolute(source), flag)
    if (
        options.base
        and not Path(options.base).expanduser().exists()
        and not re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", options.base)
    ):
        raise Stop(
            f"There is no folder {options.base!r} (looked in {Path.cwd()}), and it is no model's name on the hub (owner/name). Check it with `ls`."
        )
    size = options.size or project.settings.get("size", "auto")
    with suppress(SyntaxError):  # a model.py that cannot be read is named by its step
        if size not in ["auto", *sizes(project)]:
            raise Stop(
                f"There is no size {size!r}. The sizes: {' '.join(sizes(project))}, or auto (chosen from data and machine)."
            )


def open_project(options, word=None):
    """Return the project that is meant, made anew if there is none; what was typed is written into its settings."""
    from handrail.project import ASKED, Project, Stop

    project = Project(folder(options), options.cpu)
    new = not (project.folder / "settings.toml").exists()
    if new:
        if sys.stdin.isatty() and not options.data and not options.answers and not options.yes:
            first_screen(options)
            project = Project(folder(options), options.cpu)
            new = not (project.folder / "settings.toml").exists()
    check_flags(options, project)
    if new:
        if (outer := project.inside()) and sys.stdin.isatty() and not options.yes:
            print(
                f"{project.folder} lies inside the git repository {outer}.\nThe project gets a history of its own; nothing is committed in the other one."
            )
            if input("Enter to go on, q to stop: ").strip().lower() == "q":
                raise KeyboardInterrupt
        project.create()
    elif project.settings.get("handrail") != __version__:
        raise Stop(
            f"{project.folder} was made by handrail {project.settings.get('handrail')}, this is {__version__}. A project is "
            "never changed behind its owner's back: install that version, or edit the line `handrail = ` in settings.toml."
        )
    begun = project.settings
    for part, values in {
        "": begun,
        **{f"{name}.": values for name, values in begun.items() if isinstance(values, dict)},
    }.items():
        check_numbers(values, f"{project.folder / 'settings.toml'}: {part}")
    if not new and options.answers and word not in LATER and begun.get("data"):
        raise Stop(
            f"{project.folder} has learned from texts first. To teach it answers on top: handrail finetune {folder(options)} --answers {options.answers}"
        )
    if not new and options.data and not begun.get("data"):
        raise Stop(
            f"{project.folder} was begun with questions and answers. Texts are another walk; name a new folder: handrail my-texts --data {options.data}"
        )
    if word == "grpo" and options.answers:
        raise Stop(
            f"GRPO reads no file, {options.answers} neither: it asks the questions of the fine-tuning, in out/chats. Type the command without --answers.\n"
            "To learn from that file: handrail dpo, if it holds pairs; handrail finetune, if it holds questions and answers."
        )
    if options.data or new and not options.answers:
        project.decide(
            "data", seen_from(project, options.data or "village"), "where the texts come from"
        )
    elif new:
        options.base = options.base or OPEN
    if options.answers:
        project.decide(
            "pairs" if word == "dpo" else "answers",
            seen_from(project, options.answers),
            "questions and answers to learn from",
        )
    if options.base:
        options.base = absolute(options.base)
    for name in ("column", "base", "size", "seed"):
        if getattr(options, name) is not None:
            project.decide(name, getattr(options, name), ASKED)
    part = "finetune." if word in ANSWERS or not project.settings.get("data") else ""
    part = f"{word}." if word in ("dpo", "grpo") else part
    for name in ("updates", "batch", "context", "lr", "method"):
        if getattr(options, name) is not None:
            project.decide(part + name, getattr(options, name), ASKED)
    return project


def run(options):
    """Do what was asked; return the exit code. Imports torch only when a step needs it."""
    word = options.words[0] if options.words else None
    if word == "explain":
        from handrail.glossary import explain

        print(explain(" ".join(options.words[1:])))
        return 0
    from handrail import walk
    from handrail.project import Project, Stop
    from handrail.screen import Screen

    if word in ["steps", *WALK, *LATER]:
        options.words = options.words[1:]
        project = Project(folder(options), options.cpu)
        if not (project.folder / "settings.toml").exists():
            raise Stop(
                f"{project.folder} holds no project yet. This starts one: handrail {folder(options)}"
            )
    steps = ["steps", "explain", *WALK, *LATER]
    if (
        word not in steps
        and word
        and not Path(word).exists()
        and (near := get_close_matches(word, steps, 1, 0.8))
    ):
        raise Stop(
            f"There is no step {word!r}. Did you mean: handrail {near[0]}? A new folder of that name would be: handrail ./{word}"
        )
    if len(options.words) > 1:
        raise Stop(f"There is no step {word!r}. The steps: {' '.join(WALK + LATER)}")
    if word == "steps":
        walk.show_steps(project)
        return 0
    if not options.cpu and "--cpu" in machine.choose([]):
        options.cpu = True
    project, screen = open_project(options, word), Screen(options.yes)
    if word == "finetune" and project.settings.get("data"):
        return walk.walk(project, screen, options.until, ANSWERS)
    if word in [*WALK, *LATER]:
        outcome = walk.take(project, screen, word, "by itself")
        return int(any(check.verdict == "fail" for check in outcome.checks))
    return walk.walk(project, screen, options.until)


def ahead(words):
    """Return True if a run is to be rehearsed on fake tensors alone: no GPU and no --cpu, or an idea that is no project yet."""
    idea = (
        "--from",
        "--size",
        "--vocabulary",
        "--method",
        "--rows-at-once",
        "--checkpointing",
        "--precision",
        "--gpus",
        "--price",
        "--hf",
        "-h",
        "--help",
    )
    return "--cpu" not in words and (
        not machine.gpu() or any(word.split("=")[0] in idea for word in words)
    )


def other_commands(words):
    """Run what is no step of a walk, if that was typed; return its exit code, else None."""
    if words[:1] == ["watch"]:
        from handrail.doctor.watch import main
    elif words[:1] == ["doctor"]:
        from handrail.doctor.shelf import main
    elif words[:1] == ["break"]:
        from handrail.doctor.lesson import main
    elif words[:1] == ["rent"]:
        from handrail.rent.ways import main
    elif words[:1] == ["rehearse"] and ahead(words):
        from handrail.rehearsal import main
    else:
        return None
    return main(words[1:])


def main(arguments=None):
    """Run one command; return its exit code."""
    words = sys.argv[1:] if arguments is None else list(arguments)
    from handrail.project import Stop, refused

    try:
        code = other_commands(words)
        return run(parser().parse_args(words)) if code is None else code
    except Stop as stop:
        print(f"\n{stop}", file=sys.stderr)
        return 2
    except (KeyboardInterrupt, EOFError):
        print("\nStopped. `handrail` goes on from here.")
        return 130
    except BrokenPipeError:  # `handrail ... | head`: nobody reads on
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        if not (stop := refused(error)):
            raise
        print(f"\n{stop}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
