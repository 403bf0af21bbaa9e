"""What has to travel for one run, and the name by which other machines know this run."""

import hashlib
import json
import re
import shutil
import sys
from pathlib import Path

import click

from handrail import launch
from handrail.project.project import PROGRAM, Project, Stop, usual
from handrail.project.words import parts
from handrail.steps import OBJECTIVES, learns

CODE = ["*.py", "settings.toml", "requirements.txt", "README.md", "data"]
SCRIPTS = ["pretrain", "finetune", *OBJECTIVES]
folder_argument = click.argument("folder", metavar="[DIR]", default=usual)
script_option = click.option("--script", type=click.Choice(SCRIPTS), help="Default: the walk's.")


class Run:
    """One run of a project's script, as its settings and its data are now.

    `name` is such as my-model-3fa2c1, and no other run has it; `home` is the folder for its results
    here, `step` its newest checkpoint there or 0; `parts` are the paths that travel.
    """

    def __init__(self, folder, script):
        project = self.project = Project(folder, cpu=not launch.gpu())
        if not project.exists:
            raise Stop(words("no project", project=project))
        project.check_version()
        walks = "pretrain" if project.settings.get("data") else "finetune"
        self.script = script or walks
        self.home = project.out if self.script == "pretrain" else project.out / self.script
        data = project.out / learns(self.script)
        if not data.exists() or not (project.folder / f"{self.script}.py").exists():
            first = project.command(" --until rehearse" if self.script == walks else self.script)
            raise Stop(words("first", script=self.script, first=first))

        program = project.load("checkpoint", "identity")
        step = "" if self.script == "pretrain" else self.script
        self.values = program.settings.read("", project.flags, step)
        identity = program.identity.identity(self.values, data)
        digest = hashlib.sha256(json.dumps([self.script, identity]).encode()).hexdigest()[:6]
        self.name = re.sub("[^a-z0-9]+", "-", f"{project.folder.name}-{digest}".lower()).strip("-")

        saved = program.checkpoint.checkpoints(self.home / "checkpoints")
        self.step = max(saved, default=0)
        if saved:  # of another run: exit code 2, in the words of the project's identity.py
            program.identity.check_run(saved[self.step], identity)
        elif (self.home / "model").exists():
            away = program.identity.move_away(self.home)
            raise Stop(f"{self.home}/model is of an unknown run. First, move it away: {away}")
        model = self.values.model if step else self.values.base
        start = [(project.folder / model).resolve()] if model else []
        paths = [path for pattern in CODE for path in sorted(project.folder.glob(pattern))]
        paths += [data.parent, *project.out.glob("tokenizer"), *filter(Path.is_dir, start)]
        paths += [*list(saved.values())[-1:], *self.home.glob("metrics.jsonl")]
        outside = [path for path in paths if not path.is_relative_to(project.folder)]
        if outside:
            raise Stop(words("outside", path=outside[0]))
        self.parts = [str(path.relative_to(project.folder)) for path in paths]

    def pack(self):
        """Copy what travels, and sync.py, which sends checkpoints back, into out/bundle."""
        bundle = self.project.out / "bundle"
        shutil.rmtree(bundle, ignore_errors=True)
        for part in self.parts:
            source, target = self.project.folder / part, bundle / part
            target.parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if source.is_dir() else shutil.copy2
            copy(source, target)
        if "sync.py" not in self.parts:
            shutil.copy(PROGRAM / "sync.py", bundle)
        (bundle / ".skyignore").touch()  # else SkyPilot ignores what .gitignore does: all of out/
        return bundle


def agree(yes=False):
    """Raise Stop unless --yes was typed, or a person types yes now."""
    agreed = yes or (sys.stdin.isatty() and input("\nStart it? Type yes: ").lower() == "yes")
    if not agreed:
        raise Stop("Nothing was started: that takes a yes, typed on a terminal.")


def words(part, **values):
    """Return a part of words.md, its {names} replaced by values."""
    return parts(Path(__file__).with_name("words.md"))[part].strip().format(**values)
