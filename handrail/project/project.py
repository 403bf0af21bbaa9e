"""The learner's project: files are added one by one, each step is committed, edits are kept."""

import errno
import fcntl
import importlib
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from itertools import product
from pathlib import Path
from types import SimpleNamespace

from handrail import __version__
from handrail.project import words

PROGRAM = Path(__file__).parent.parent / "program"
PROBLEMS = Path(__file__).with_name("problems.md")
TEMPLATE = Path(__file__).parent.parent / "project_template"
GUIDES = ("README.md", "AGENTS.md")  # of a project: they name only files that are there
ASKED = "asked for on the command line"
WHOLE = {"updates": 1, "batch": 1, "context": 1, "vocabulary": 1}  # whole numbers, and their least
WHOLE |= {"seed": 0, "every": 0, "rows_at_once": 0}
TYPES = {  # of settings: what is meant, and the names that have to be so
    'a text in quotes, as in name = "words"': (
        str,
        "data source answers pairs base column me prompt size license language world",
    ),
    'a list of file endings, as in [".txt"]': (list, "kinds source_kinds"),
    "a part of its own, with lines such as finetune.lr = 0.001": (dict, "finetune dpo grpo"),
}


class Stop(Exception):
    """Input or usage is at fault: one clear message (what, where, how to fix it), exit code 2.

    `wants` names the setting that is missing, where the answer can be typed right there.
    """

    def __init__(self, text, wants=""):
        super().__init__(text)
        self.wants = wants


def stop(head, /, **values):
    """Return the Stop whose words are under a heading of problems.md."""
    return Stop(words.told(PROBLEMS, head, **values))


FIX = dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "no room")
FIX |= dict.fromkeys((errno.EACCES, errno.EPERM, errno.EROFS), "no permission")


def refused(error):
    """Return a Stop if the system refused (disk full, no permission), or None for other errors."""
    rust = re.search(r"os error (\d+)", str(error))  # libraries written in Rust have their own
    if not isinstance(error, OSError) and not rust:
        return None
    number = int(rust[1]) if rust else error.errno
    where = f"{error.filename}: " if getattr(error, "filename", None) else ""
    reason = os.strerror(number) if number else str(error)
    return stop(FIX.get(number, "refused"), where=where, reason=reason)


def holder(file, keep=False):
    """Return the process that has locked a file, or None. `keep`: lock it until this one ends."""
    file.parent.mkdir(parents=True, exist_ok=True)
    lock = os.open(file, os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return os.read(lock, 20).decode() or "unknown"
    except OSError:  # a disk that knows no locks
        return None
    if not keep:
        return os.close(lock)
    os.truncate(lock, 0)
    os.write(lock, str(os.getpid()).encode())
    return None


def check_numbers(values, place):
    """Raise Stop for a number that no run can begin with."""
    for name, least in WHOLE.items():
        value = values.get(name)
        if value is not None and not (type(value) is int and value >= least):
            raise stop("no whole number", name=f"{place}{name}", value=value, least=least)
    lr = values.get("lr")
    if lr is not None and not (isinstance(lr, int | float) and 0 < lr < math.inf):
        raise stop("no learning rate", name=f"{place}lr", value=lr)


def usual():
    """Return the folder to use if none is named: this one if it is a project, or ./first-model."""
    return "." if Path("settings.toml").exists() else "first-model"


def read_settings(file):
    """Return [(name, value, why)] of settings.toml; the why is the comment behind the value."""
    import tomlkit  # a tenth of the time that `handrail --help` takes

    def rows(table, prefix=""):
        for key, item in table.body:  # of dotted names, such as finetune.lr, there is one each
            if isinstance(item, dict):
                yield from rows(item.value, f"{prefix}{key.key}.")
            elif key:
                yield prefix + key.key, item.as_string(), item.trivia.comment.lstrip("# ")

    return list(rows(tomlkit.parse(file.read_text(encoding="utf-8")))) if file.exists() else []


class Project:
    """A folder with settings.toml in it; `cpu` is True when a person chose the CPU."""

    def __init__(self, folder, cpu=False):
        if not str(folder):  # as in `handrail new "$name"`; it would mean the current folder
            raise stop("empty name")
        self.folder, self.cpu = Path(folder).resolve(), cpu
        self.out = self.folder / "out"

    @property
    def exists(self):
        return (self.folder / "settings.toml").exists()

    @property
    def typed(self):
        """Return the folder as a shell wants it typed."""
        return shlex.quote(str(self.folder))

    def command(self, words=""):
        """Return the command that continues the walk here, or takes one step of it ("lr --seed 1").

        It is as one types it from the current folder.
        """
        step, _, options = words.partition(" ")
        usually = Path(usual()).resolve() == self.folder
        typed = ["handrail"]
        if step or options or not usually:
            typed.append(step or "new")
        if not usually or not step and options:
            typed.append(self.typed)
        flags = [] if step in ("estimate", "rent") else self.flags  # these train nothing here
        return " ".join([*typed, *options.split(), *flags])

    def script(self, words):
        """Return the command that runs a script of the project ("chat.py"), typed in its folder."""
        return " ".join(["python", words, *self.flags])

    # --- settings: one line and its why a decision ---

    @property
    def settings(self):
        """What was chosen so far, as a dict. Raises Stop for what cannot be read or used."""
        file = self.folder / "settings.toml"
        try:
            chosen = tomllib.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        except ValueError as error:  # no TOML, or no UTF-8
            twice = "the name of that line is there twice"
            said = str(error).replace("Cannot overwrite a value", twice)
            raise stop("settings unreadable", file=file, said=said) from error
        parts = [part for part in chosen.values() if isinstance(part, dict)]
        for part, (what, (kind, names)) in product([chosen, *parts], TYPES.items()):
            for name in set(names.split()) & part.keys():
                if not isinstance(part[name], kind):
                    raise stop("wrong type", file=file, name=name, value=part[name], what=what)
        check_numbers(chosen, f"{file}: ")
        for part, values in chosen.items():
            if isinstance(values, dict):
                check_numbers(values, f"{file}: {part}.")
        return chosen

    def decide(self, name, value, why=""):
        """Write `name = value  # why` into settings.toml, over an older line; None removes it."""
        import tomlkit

        file = self.folder / "settings.toml"
        chosen = tomlkit.parse(file.read_text(encoding="utf-8"))
        table, _, key = name.rpartition(".")
        place = chosen.get(table, {}) if table else chosen
        if value is None:
            place.pop(key, None)
        else:
            item = tomlkit.item(value)
            if why:
                item.comment(" ".join(why.split()))
                item.trivia.comment_ws = "  "
            if table and table not in chosen:
                chosen.append(tomlkit.key([table, key]), item)
            else:
                place[key] = item
        part = file.with_suffix(".part")
        part.write_text(tomlkit.dumps(chosen), encoding="utf-8")
        part.replace(file)  # a full disk leaves the old one whole

    def written(self):
        """Return {name: value as written} of all settings; such as finetune.lr, too."""
        return {name: value for name, value, _ in read_settings(self.folder / "settings.toml")}

    def asked(self, name):
        """Return True if the user typed this setting as an option: then no step changes it."""
        rows = read_settings(self.folder / "settings.toml")
        return any(row[0] == name and row[2] == ASKED for row in rows)

    def record(self, step):
        """Return what was noted when the step was last taken, or None (also for half a note)."""
        try:
            note = json.loads((self.out / "steps" / f"{step}.json").read_text())
        except (FileNotFoundError, ValueError):
            return None
        return note if isinstance(note, dict) and "checks" in note else None

    def persons(self, name, step):
        """Return True if a person chose this setting: not the step, when it was last taken."""
        now, note = self.written().get(name), self.record(step) or {"chose": {}}
        return self.asked(name) or now != note.get("chose", {name: now}).get(name)

    # --- files: handed over, then the owner's ---

    def check_free(self):
        """Raise Stop if the folder holds something else, so that no project can begin here."""
        if self.folder.is_file():
            raise stop("a file", folder=self.folder, typed=self.typed)
        if self.folder.exists() and any(self.folder.iterdir()):
            raise stop("folder in use", folder=self.folder, typed=self.typed)

    def check_version(self):
        """Raise Stop if another version made the project (first two numbers); say both ways out."""
        settings = self.settings
        made = str(settings.get("handrail"))
        if made.split(".")[:2] == __version__.split(".")[:2]:
            return
        sources = {"--data": settings.get("data"), "--answers": settings.get("answers")}
        sources["--from"] = settings.get("base")
        if sources["--data"] == "village.jsonl" and settings.get("world"):
            sources["--data"] = "village"  # written there by the data step
        new = ["handrail", "new", f"{self.folder}-2"]
        for flag, source in sources.items():
            if source:
                local = self.folder / Path(source).expanduser()
                new += [flag, str(local.resolve()) if local.exists() else source]
        raise stop(
            "other version",
            folder=self.folder,
            made=made,
            here=__version__,
            typed=self.typed,
            script=self.script("pretrain.py" if settings.get("data") else "finetune.py"),
            new=shlex.join(new + self.flags),
        )

    def hold(self):
        """Keep others out of this project until this process ends; raise Stop if one is at work.

        Two at once would overwrite each other's checkpoints, tokens and settings.
        """
        runs = [self.out, *(self.out / script.stem for script in self.folder.glob("*.py"))]
        for run in runs:  # not out/trial: a trial of its owner may run
            file = run / "run.lock"
            if file.exists() and (process := holder(file)):
                raise stop("run under way", folder=file.parent, process=process)
        if process := holder(self.out / "steps" / "walk.lock", keep=True):
            raise stop("open elsewhere", folder=self.folder, process=process)

    def create(self):
        """Make the folder a project: settings.toml, the template's files, a git repository."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for file in TEMPLATE.iterdir():
            shutil.copyfile(file, self.folder / file.name)
        for name in GUIDES:
            (self.folder / name).write_text(self.guide(name, self.cpu), encoding="utf-8")
        settings = self.folder / "settings.toml"
        settings.write_text(settings.read_text().format(version=__version__))
        if shutil.which("git"):
            self.git("init", "-q")
            self.commit([file.name for file in TEMPLATE.iterdir()], "An empty project")

    def inside(self):
        """Return somebody else's git repository that contains this folder, or None."""
        return next((parent for parent in self.folder.parents if (parent / ".git").exists()), None)

    def missing(self, files):
        """Return those of `files` that are not in the project yet."""
        return [file for file in files if not (self.folder / file).exists()]

    def guide(self, name, cpu):
        """Return README.md or AGENTS.md of the template, without lines that name a missing file."""
        text = (TEMPLATE / name).read_text(encoding="utf-8")
        lines = text.replace("{cpu}", " --cpu" if cpu else "").splitlines(keepends=True)
        missing = set(self.missing(file.name for file in PROGRAM.glob("*.py")))
        return "".join(line for line in lines if missing.isdisjoint(re.findall(r"\w+\.py", line)))

    def guides(self):
        """Return {name: text} of README.md and AGENTS.md, if they still begin as handrail's do."""
        found = {}
        for name, cpu in product(GUIDES, (False, True)):
            file, text = self.folder / name, self.guide(name, cpu)
            if file.exists() and file.read_text(encoding="utf-8").startswith(text):
                found[name] = text
        return found

    def add(self, files):
        """Copy program files that are missing into the project, and name them in its README.md."""
        guides = self.guides()
        for file in self.missing(files):
            shutil.copy(PROGRAM / file, self.folder / file)
        for name, text in guides.items():
            file = self.folder / name
            rest = file.read_text(encoding="utf-8")[len(text) :]  # what a step or the owner added
            cpu = self.cpu or " --cpu " in text  # the commands stay those of the first machine
            file.write_text(self.guide(name, cpu) + rest, encoding="utf-8")

    def edited(self, files):
        """Return those of `files` that are no longer as handed over."""
        there = [file for file in files if (self.folder / file).exists()]
        return [f for f in there if (self.folder / f).read_bytes() != (PROGRAM / f).read_bytes()]

    # --- git: the project's own history is the lesson ---

    def git(self, *arguments):
        """Run git in the project, with an identity if the machine has none; return its output."""

        def run(*words):
            return subprocess.run(["git", *words], cwd=self.folder, capture_output=True, text=True)

        who = ["-c", "user.name=handrail", "-c", "user.email=handrail@localhost"]
        done = run(*([] if run("config", "user.email").stdout else who), *arguments)
        if done.returncode:
            said = done.stderr.strip()
            raise stop("git failed", words=" ".join(arguments), folder=self.folder, said=said)
        return done.stdout.strip()

    def has_git(self):
        return shutil.which("git") and (self.folder / ".git").exists()

    def commit(self, files, message):
        """Commit the named files, if one of them changed; return the commit or None."""
        if not self.has_git():
            return None
        self.git("add", "--", *files)
        if not self.git("status", "--porcelain", "--untracked-files=no", "--", *files):
            return None
        self.git("commit", "-q", "-m", message, "--", *files)
        return self.git("rev-parse", "--short", "HEAD")

    def dirty(self, file):
        """Return True if a file differs from what was last committed."""
        return bool(self.has_git() and self.git("status", "--porcelain", "--", file))

    # --- running what is there ---

    def load(self, *names):
        """Return the project's modules, imported as they are on disk now, in one object.

        `values` holds the settings as the project's own scripts see them.
        """
        from transformers.utils.logging import disable_progress_bar

        disable_progress_bar()  # of files of some kilobytes
        for name in [name for name in sys.modules if (PROGRAM / f"{name}.py").exists()]:
            del sys.modules[name]  # an older version, or another project's
        importlib.invalidate_caches()
        # what a coming step will add is read from the program that is handed over
        paths = [str(self.folder), str(PROGRAM)]
        sys.path[:0] = paths
        try:
            found = {name: importlib.import_module(name) for name in ("settings", *names)}
        except (ImportError, SyntaxError) as error:
            raise stop("program unreadable", folder=self.folder, error=error) from error
        finally:
            for path in paths:
                sys.path.remove(path)
        return SimpleNamespace(**found, values=found["settings"].read("", self.flags))

    @property
    def flags(self):
        return ["--cpu"] if self.cpu else []

    def python(self, script, *arguments, **how):
        """Start a script as its owner would: `python SCRIPT` in its folder; return the process."""
        words = [sys.executable, script, *arguments, *self.flags]
        return subprocess.Popen(words, cwd=self.folder, **how)
