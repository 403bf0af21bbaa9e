"""What has to travel: the program, the settings, what was prepared from the data; not the data itself, nor old checkpoints."""

import os
import re
import shlex
import shutil
from filecmp import cmp
from pathlib import Path

from handrail.project import PROGRAM, Project, Stop

CODE = ["*.py", "settings.toml", "requirements.txt", "README.md"]
MADE = {"pretrain": ["tokens", "tokenizer"], "finetune": ["chats", "model", "tokenizer"]}  # in out/
CAUSES = {  # in the log of a job that failed, wherever it ran: what it means
    "out of memory|OutOfMemoryError": "The GPU's memory was too small. Set rows_at_once in settings.toml to a half or a quarter of the batch "
    "(the same run, slower), or rent a larger GPU: handrail estimate",
    "No matching distribution|Could not find a version": "pip found no fitting packages: the Python there is too old or too new for requirements.txt.",
}


def put(file, text):
    """Write a file; another text that lies there is kept under a new name."""
    if file.exists() and file.read_text() != text:
        kept = next(
            path
            for n in range(1, 1000)
            if not (path := file.with_name(f"{file.stem}-{n}{file.suffix}")).exists()
        )
        file.rename(kept)
        print(f"What lay in {file.name} before is kept: {kept.name}")
    file.write_text(text)


def opened(folder):
    """Return the Project in `folder`; raise Stop if there is none."""
    if not (Path(folder) / "settings.toml").exists():
        raise Stop(
            f"{folder} holds no project. This starts one: handrail new {shlex.quote(str(folder))}"
        )
    project = Project(folder)
    project.check_version()
    return project


def chosen(project, script=None):
    """Return the script that is to run elsewhere, without .py: the one named, else what this project's walk trains with."""
    name = (
        script or ("finetune" if not project.settings.get("data") else "pretrain")
    ).removesuffix(".py")
    if name not in MADE:
        raise Stop(f"--script {name}: it is pretrain or finetune")
    if not (project.folder / f"{name}.py").exists():
        first = (
            f"handrail new {project.typed} --until rehearse"
            if name == "pretrain"
            else f"handrail finetune {project.typed}, and Ctrl-C once it learns; from then on {name}.py is there"
        )
        raise Stop(
            f"{project.folder} has no {name}.py yet. Take the steps before it here first, they are small: {first}"
        )
    return name


def slug(project):
    """Return the project's name as clouds take it: small letters, digits, hyphens."""
    return re.sub(r"[^a-z0-9]+", "-", project.folder.name.lower()).strip("-") or "model"


def begins(project, name):
    """Return the folder of the pretrained model that a run begins with, if it is one on this disk, else None."""
    model = (
        project.settings.get("finetune", {}).get("model")
        if name == "finetune"
        else project.settings.get("base")
    )
    return (
        (project.folder / model).resolve() if model and (project.folder / model).is_dir() else None
    )


def travels(project, name):
    """Return what a run needs elsewhere, as paths in the project; raise Stop if something is missing or lies outside."""
    start = begins(project, name)
    if start and not start.is_relative_to(project.folder):
        raise Stop(
            f"The run begins with the model in {start}, which lies outside the project, so the other machine would not have it. Copy it in: "
            f"cp -r {start} {project.folder}/base, and write base in its place in settings.toml."
        )
    need = MADE[name] if name == "pretrain" else ["chats"]
    if missing := [part for part in need if not (project.out / part).exists()]:
        raise Stop(
            f"{project.out / missing[0]} is not there yet. First, here: handrail new {project.typed} --until rehearse"
        )
    code = sorted(file.name for pattern in CODE for file in project.folder.glob(pattern))
    made = [f"out/{part}" for part in MADE[name] if (project.out / part).exists()]
    return list(
        dict.fromkeys([*code, *made, *([str(start.relative_to(project.folder))] if start else [])])
    )


def pack(project, name, folder):
    """Copy what has to travel into `folder`, with sync.py, which keeps what the run makes."""
    folder = Path(folder)
    for part in [project.folder / part for part in travels(project, name)]:
        to = folder / part.relative_to(project.folder)
        to.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(part, to) if part.is_dir() else shutil.copy(part, to)
    shutil.copy(PROGRAM / "sync.py", folder)


def bring(new, home):
    """Move what a run left elsewhere, now in the folder `new`, into `home`; what would be lost there is renamed first."""
    mine, theirs = (
        file.read_bytes() if file.exists() else b""
        for file in (home / "metrics.jsonl", new / "metrics.jsonl")
    )
    same_run = mine and theirs.startswith(mine)

    def lost(path):
        here = home / path.name
        if path.name == "model":
            pairs = [
                (file, here / file.relative_to(path)) for file in path.rglob("*") if file.is_file()
            ]
            return any(not old.exists() or not cmp(file, old, shallow=False) for file, old in pairs)
        return not same_run and (path.is_file() or any(path.iterdir()))

    clash = [
        home / path.name for path in new.iterdir() if (home / path.name).exists() and lost(path)
    ]
    if clash:
        number = next(n for n in range(1, 1000) if not list(home.glob(f"*-{n}*")))
        for path in clash:
            path.rename(path.with_name(f"{path.stem}-{number}{path.suffix}"))
        print(
            f"\nWhat lay in {home} before is kept: {', '.join(f'{path.stem}-{number}{path.suffix}' for path in clash)}"
        )
    for file in [path for path in new.rglob("*") if path.is_file()]:
        (home / file.relative_to(new)).parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, home / file.relative_to(new))
    shutil.rmtree(new)
