"""The commands. Nothing heavy is imported before it is needed: `--help` answers at once."""

import json
import os
import shlex
import signal
import sys
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import click

from handrail import __version__
from handrail.cloud import rent
from handrail.project.project import Project, Stop, refused, stop, usual
from handrail.steps import ANSWERS, LATER, WALK

STEPS = [*WALK, *LATER]
OWN_OPTIONS = {"ignore_unknown_options": True, "allow_interspersed_args": False}
ABOVE_0 = click.IntRange(1)
RUN = [  # what `estimate` counts with, too
    click.option("--from", "base", metavar="MODEL", help="A pretrained model: hub name, folder."),
    click.option("--size", help="1m 5m 25m 85m 300m 1b. Default: from data and machine."),
    click.option("--method", type=click.Choice(["full", "lora"]), help="How to fine-tune."),
    click.option("--updates", type=ABOVE_0, help="How often the weights are changed."),
    click.option("--batch", type=ABOVE_0, help="Rows in one update."),
    click.option("--context", type=ABOVE_0, help="Tokens in a row."),
]
OPTIONS = [
    click.option("--data", metavar="SRC", help="Texts: file, folder, hub data set, or village."),
    click.option("--answers", metavar="SRC", help="Questions with answers; for dpo: pairs."),
    click.option("--column", help="The column of a table that holds the text."),
    click.option("--me", metavar="NAME", help="In a chat export: whose messages are the answers."),
    *RUN,
    click.option("--lr", type=float, help="Learning rate: how far an update moves the weights."),
    click.option("--seed", type=int, help="Where the random numbers start."),
    click.option("--until", type=click.Choice(STEPS), metavar="STEP", help="Stop after this step."),
    click.option("--cpu", is_flag=True, help="Use the CPU, knowing that it is slow."),
    click.option("--yes", is_flag=True, help="Do not ask: continue after each step that passes."),
    click.option("--json", is_flag=True, help="Print one JSON object, and ask nothing."),
]
COUNTED = [
    *RUN,
    click.option("--vocabulary", type=ABOVE_0, help="Tokens that a new model knows."),
    click.option("--rows-at-once", type=ABOVE_0, help="Rows in memory at once."),
    click.option("--checkpointing", is_flag=True, help="Less memory, for a third more time."),
    click.option("--precision", type=click.Choice(["bf16", "fp16", "fp32"]), help="Number format."),
    click.option("--gpus", type=ABOVE_0, default=1, help="How many GPUs share an update."),
    click.option("--price", type=click.FloatRange(0, 1e4, min_open=True), help="$ per GPU hour."),
    click.option("--hf", is_flag=True, help="Ask Hugging Face for today's prices."),
    click.option("--json", is_flag=True, help="Print one JSON object."),
]
SHARED = [
    click.option("--license", metavar="ID", help="What others may do with the model, such as mit."),
    click.option("--language", metavar="ID", help="Of your data, such as en: for the card."),
    click.option("--push", metavar="OWNER/NAME", help="Then upload it to the hub, after a yes."),
]


def options(command, group=OPTIONS):
    """Give a command a group of options; by default those that `new` and every step have."""
    for option in reversed(group):
        command = option(command)
    return command


class Commands(click.Group):
    """All commands; a word that is none of them is an error, never a new folder."""

    def format_options(self, context, formatter):
        with formatter.section("Commands"):
            names = [name for name in self.commands if name not in STEPS]
            formatter.write_dl([(name, self.commands[name].help) for name in names])
        with formatter.section("One step alone (handrail STEP [DIR])"):
            formatter.write_text(" ".join(STEPS))
        click.Command.format_options(self, context, formatter)

    def resolve_command(self, context, words):
        word = words[0]
        if word == "help":
            print(context.get_help())
            context.exit()
        if word not in self.commands:
            near = next(iter(get_close_matches(word, self.commands, 1)), None)
            source = ["my-model", "--data"] if Path(word).is_file() else []
            new = shlex.join(["handrail", "new", *source, *words])
            raise stop("no such command", word=word, near=near, new=new)
        if any(context.params.values()):
            raise stop("options first", word=word)
        return super().resolve_command(context, words)


def take(folder, typed, step=""):
    """Take the walk in a folder, or one step of it; return the exit code."""
    from handrail import walk
    from handrail.begin import opened, write_down
    from handrail.project.screen import Screen

    chosen, said = SimpleNamespace(**typed), click.get_current_context().obj
    agreed, chosen.yes = chosen.yes, chosen.yes or chosen.json
    project, screen = opened(folder, chosen, step), Screen(chosen.yes)
    after_texts = step == "finetune" and project.settings.get("data")
    if step:
        walk.check_order(project, ANSWERS[0] if after_texts else step)
    write_down(project, chosen, step)
    alone = step and not after_texts
    steps = ANSWERS if after_texts else walk.path(project)
    if not alone and chosen.until and chosen.until not in steps:
        raise stop("until another walk", until=chosen.until, steps=", ".join(steps))
    try:
        if alone:
            code = take_one(project, screen, step, typed.get("push"), agreed)
        else:
            code = walk.walk(project, screen, steps, chosen.until)
    except (KeyboardInterrupt, EOFError):
        said["error"] = f"Stopped. To continue: {project.command(step)}"
        print(f"\n{said['error']}")
        return 130
    if chosen.json:
        said |= walk.taken(project)
    return code


def take_one(project, screen, step, push, agreed):
    """Take one step by itself, unless all that is asked for is to upload what it made.

    An upload takes a yes of its own: --json asks nothing, but agrees to nothing either.
    """
    from handrail import walk
    from handrail.project.screen import Screen

    if not push or walk.state(project, step) != "done":
        outcome = walk.take(project, screen, step, "by itself")
        if any(check.verdict == "fail" for check in outcome.checks):
            return 1
    if push:
        from handrail.steps.share import push as upload

        upload(project, Screen(agreed), push)
    return 0


@click.group(
    cls=Commands,
    invoke_without_command=True,
    subcommand_metavar="[COMMAND] ...",
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@options
@click.version_option(__version__)
@click.pass_context
def cli(here, /, **typed):
    """From data to a language model and a training program of your own, one step at a time.

    `handrail` alone continues the project here or in ./first-model. Where there is none, it asks
    what you want and starts one. In one line:

    \b
    handrail new my-model --data notes/         a model that writes like your texts
    handrail new my-helper --answers qa.jsonl   one that answers like your file
    """
    return None if here.invoked_subcommand else take(usual(), typed)


@cli.command()
@click.argument("folder", metavar="DIR")
@options
def new(folder, **typed):
    """Start a project in DIR; if there is one already, continue it."""
    return take(folder, typed)


@cli.command()
@click.argument("folder", metavar="[DIR]", default=usual)
@click.option("--json", "in_json", is_flag=True, help="As one JSON object, with what comes next.")
@click.pass_obj
def status(said, folder, in_json):
    """Show which steps of a project are done."""
    from handrail import walk
    from handrail.begin import found

    if in_json:
        said |= walk.status(folder)
    else:
        walk.show_status(found(folder))


@cli.command()
@click.argument("name", metavar="[STEP]", required=False)
@click.argument("folder", metavar="[DIR]", default=usual)
def undo(name, folder):
    """Take back the last step, or STEP: its files leave the project, as a new commit."""
    from handrail import walk
    from handrail.begin import chosen_on, found
    from handrail.project.screen import Screen

    if name and name not in STEPS and folder == usual():
        name, folder = "", name
    project = found(folder)
    project.cpu = chosen_on(project).exists()
    project.hold()
    walk.undo(project, Screen(), name or walk.last(project))


@cli.command()
@click.argument("words", metavar="[WORD]...", nargs=-1)
def explain(words):
    """Explain words, such as perplexity, or should-i-train [DIR]: which way your data points to."""
    from handrail.lessons.lessons import meanings
    from handrail.project.glossary import explain, key

    first, *folder = words or [""]
    if "shoulditrain" in (key(first), key("".join(words))):
        from handrail.project.screen import Screen
        from handrail.walk import show_advice

        named = folder if key(first) == "shoulditrain" else []
        return show_advice(Project([*named, usual()][0]), Screen())
    print(explain(" ".join(words), cli.commands, meanings()))


@cli.command("break")
@click.argument("fault", required=False)
@click.argument("folder", metavar="[DIR]", default=usual)
def break_(fault, folder):
    """Show a silent training mistake happening; without FAULT, list them all."""
    from handrail.lessons.lessons import main

    return main(fault, folder)


@cli.command()
@click.argument("folder", metavar="[DIR]", required=False)
@partial(options, group=COUNTED)
def estimate(folder, **typed):
    """Count what a run needs: memory, which GPU, how long, what it costs. Trains nothing."""
    from handrail.cost.estimate import main

    return main(folder, SimpleNamespace(**typed))


@cli.command(context_settings=OWN_OPTIONS)
@click.option("--json", "file", metavar="FILE", help="Write the findings to FILE, as JSON.")
@click.argument("command", metavar="COMMAND...", nargs=-1, type=click.UNPROCESSED)
def watch(file, command):
    """Run any training program, unchanged, while the doctor watches it."""
    from handrail.doctor.watch import main

    return main(list(command), file)


@cli.command()
@click.argument("path", metavar="PATH", required=False)
@click.option("--list", "known", is_flag=True, help="Print all mistakes that the doctor knows.")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON object.")
def doctor(path, known, in_json):
    """Check files: data, a saved model, or what a run left behind."""
    from handrail.doctor.findings import as_json, listing, report

    if known:
        print(listing())
        return 0
    if not path:
        raise Stop("Which file or folder? For example: handrail doctor first-model")
    found = look(path)
    print(as_json(found) if in_json else report(found, seen=f"at {path}"))
    return int(any(finding.level == "certain" for finding in found))


def look(path):
    """Return what the doctor finds in saved models and logs, and the checks in data files."""
    from handrail.data import file_checks
    from handrail.doctor import saved

    return saved.look(path) + file_checks.look(path)


def step(name):
    """Return the command that takes one step."""

    @click.command(name, help=f"Take the step {name} in DIR, the project here or ./first-model.")
    @click.argument("folder", metavar="[DIR]", default=usual)
    @options
    def command(folder, **typed):
        return take(folder, typed, name)

    return options(command, SHARED) if name == "share" else command


for name in STEPS:
    cli.add_command(step(name))
cli.add_command(rent)


def run(words, said):
    """Run one command; return its exit code. `said` takes up what --json prints."""
    try:
        with cli.make_context("handrail", words, obj=said) as context:
            return cli.invoke(context) or 0
    except click.exceptions.Exit as end:  # --help, --version
        return end.exit_code
    except click.UsageError as wrong:
        where = "handrail " + words[0] if words[0] in cli.commands else "handrail"
        where = wrong.ctx.command_path if wrong.ctx else where
        code, said["error"] = 2, f"{wrong.format_message()}\nAll options: {where} --help"
    except (KeyboardInterrupt, EOFError, click.Abort):
        code, said["error"] = 130, "Stopped."
    except SystemExit:  # raised by a file of the project, which has said why
        said["error"] = "A file of the project stopped here: see what it printed above."
        return 2
    except BrokenPipeError:  # `handrail ... | head`: nobody reads the rest
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except Exception as error:
        from handrail.doctor.findings import Refused

        stop = error if isinstance(error, Stop | Refused) else refused(error)
        code, said["error"] = 2, str(stop or f"{type(error).__name__}: {error}")
        if not stop:
            raise
    print(f"\n{said['error']}", file=sys.stderr)
    return code


def main(words=None):
    """Run one command; return its exit code.

    With --json, standard output holds one JSON object, whatever happens. All else that is printed,
    by the learner's scripts too, is on standard error.
    """
    words, said, code = sys.argv[1:] if words is None else list(words), {}, 1
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    if "--json" not in words or words[0] == "watch":  # there, it names a file
        return run(words, said)
    if words[0] in ("doctor", "estimate"):  # these print their own
        code = run(words, said)
        if said:
            print(json.dumps({"exit": code} | said, indent=1))
        return code
    stdout = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        code = run(words, said)
    finally:
        print(json.dumps({"exit": code} | said, indent=1, default=str), file=stdout, flush=True)
    return code


if __name__ == "__main__":
    sys.exit(main())
