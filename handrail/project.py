"""The learner's project: grow it file by file, commit what was added, never overwrite what its owner changed."""

import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace

from handrail import __version__

PROGRAM = Path(__file__).parent / "program"
ASKED = "asked for on the command line"


class Stop(Exception):
    """Input or usage is at fault: one clear message (what, where, how to mend), exit code 2, no traceback."""


class Project:
    """A folder with settings.toml in it; `cpu` is True when a person chose the CPU."""

    def __init__(self, folder, cpu=False):
        self.folder, self.cpu = Path(folder).resolve(), cpu
        self.out = self.folder / "out"

    # --- settings: one line and its why a decision ---

    @property
    def settings(self):
        """What was chosen so far, as a dict."""
        file = self.folder / "settings.toml"
        try:
            return tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        except tomllib.TOMLDecodeError as error:
            raise Stop(f"{file} cannot be read: {error}. Mend that line, or take it out to have it chosen again.")

    def decide(self, name, value, why):
        """Write `name = value  # why` into settings.toml, in place of an older line of that name."""
        file = self.folder / "settings.toml"
        lines = [line for line in file.read_text(encoding="utf-8").splitlines() if not re.match(rf"{name}\s*=", line)]
        line = f"{name} = {json.dumps(value, ensure_ascii=False)}  # {' '.join(why.split())}"
        file.write_text("\n".join([*lines, line]) + "\n", encoding="utf-8")

    def asked(self, name):
        """Return True if the user named this setting on the command line: then no step changes it."""
        return bool(re.search(rf"^{name}\s*=.*{ASKED}", (self.folder / "settings.toml").read_text(encoding="utf-8"), re.M))

    # --- files: handed over, then the owner's ---

    def create(self):
        """Make the folder a project: settings.toml, the files around the program, its own git repository."""
        if self.folder.is_file():
            raise Stop(f"{self.folder} is a file. Texts go after --data: handrail my-model --data {self.folder.name}")
        if self.folder.exists() and any(self.folder.iterdir()):
            raise Stop(
                f"{self.folder} is not empty and holds no settings.toml, so it is no project of handrail's. "
                f"Nothing was touched. Name a new folder: handrail my-new-model\nIf your texts are in it: handrail my-new-model --data {self.folder}"
            )
        try:
            shutil.copytree(PROGRAM.parent / "around", self.folder, dirs_exist_ok=True)
            (self.folder / "gitignore").rename(self.folder / ".gitignore")
        except PermissionError as error:
            raise Stop(f"{error.filename} cannot be written: no permission. Name a folder of your own: handrail ~/my-model")
        (self.folder / "settings.toml").write_text(
            "# What was chosen for this project, and why. Edit any line; a flag typed after a command wins for that run.\n"
            f'handrail = "{__version__}"  # the version that grew this project\n'
        )
        if shutil.which("git"):
            self.git("init", "-q")
            self.commit(["settings.toml", "README.md", "AGENTS.md", "requirements.txt", ".gitignore"], "An empty project")

    def inside(self):
        """Return the git repository of somebody else in which this folder lies, or None."""
        return next((parent for parent in self.folder.parents if (parent / ".git").exists()), None)

    def missing(self, files):
        """Return those of `files` that are not in the project yet."""
        return [file for file in files if not (self.folder / file).exists()]

    def add(self, files):
        """Copy program files into the project, only where there is none."""
        for file in self.missing(files):
            shutil.copy(PROGRAM / file, self.folder / file)

    def edited(self, files):
        """Return those of `files` that are no longer as handed over."""
        return [f for f in files if (self.folder / f).exists() and (self.folder / f).read_bytes() != (PROGRAM / f).read_bytes()]

    # --- git: the project's own history is the lesson ---

    def git(self, *arguments):
        """Run git in the project; return its output. An identity is supplied if the machine has none."""
        who = [] if subprocess.run(["git", "config", "user.email"], cwd=self.folder, capture_output=True).stdout else [
            "-c", "user.name=handrail", "-c", "user.email=handrail@localhost"]  # fmt: skip
        done = subprocess.run(["git", *who, *arguments], cwd=self.folder, capture_output=True, text=True)
        if done.returncode:
            raise Stop(f"`git {' '.join(arguments)}` failed in {self.folder}: {done.stderr.strip()}")
        return done.stdout.strip()

    def commit(self, files, message):
        """Commit the named files, if one of them changed; return the commit or None."""
        if not (shutil.which("git") and (self.folder / ".git").exists()):
            return None
        self.git("add", "--", *files)
        if not self.git("status", "--porcelain", "--untracked-files=no", "--", *files):
            return None
        self.git("commit", "-q", "-m", message, "--", *files)
        return self.git("rev-parse", "--short", "HEAD")

    def dirty(self, file):
        """Return True if a file differs from what was last committed."""
        return bool(shutil.which("git") and (self.folder / ".git").exists() and self.git("status", "--porcelain", "--", file))

    # --- running what is there ---

    def load(self, *names):
        """Return the project's modules, imported as they are on disk now, as attributes of one object.

        `values` holds the settings as the project's own scripts see them.
        """
        for name in [name for name in sys.modules if (PROGRAM / f"{name}.py").exists()]:
            del sys.modules[name]  # an older version, or another project's
        importlib.invalidate_caches()
        sys.path.insert(0, str(self.folder))
        try:
            program = SimpleNamespace(**{name: importlib.import_module(name) for name in ("settings", *names)})
        except (ImportError, SyntaxError) as error:
            raise Stop(f"A file of {self.folder} cannot be imported: {error}. `git diff` there shows what was changed.")
        finally:
            sys.path.remove(str(self.folder))
        program.values = program.settings.read("", self.flags)
        return program

    @property
    def flags(self):
        return ["--cpu"] if self.cpu else []

    def python(self, script, *arguments, **how):
        """Start a script of the project as its owner would: `python SCRIPT`, in the project's folder; return the process."""
        return subprocess.Popen([sys.executable, script, *arguments, *self.flags], cwd=self.folder, **how)

    def finish(self, script):
        """Run a script of the project to its end; raise Stop if it failed. Ctrl-C goes to it too: it is given the time to save."""
        process = self.python(script)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            process.wait()
            raise
        if code:
            raise Stop(f"{script} ended with exit code {code}; what it said stands above. What was saved is kept: the same command goes on from it.")
