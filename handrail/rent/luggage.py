"""What has to travel: the program, the settings, what was prepared from the data; not the data itself, nor old checkpoints."""

import shutil
from pathlib import Path

from handrail.project import Project, Stop

CODE = ["*.py", "settings.toml", "requirements.txt", "README.md"]
MADE = {"pretrain": ["tokens", "tokenizer"], "finetune": ["chats", "model", "tokenizer"]}  # in out/


def opened(folder):
    """Return the Project in `folder`; raise Stop if there is none."""
    if not (Path(folder) / "settings.toml").exists():
        raise Stop(f"{folder} holds no project. This starts one: handrail {folder}")
    return Project(folder)


def chosen(project, script=None):
    """Return the script that is to run elsewhere, without .py: the one named, else what this project's walk trains with."""
    name = (script or ("finetune" if not project.settings.get("data") else "pretrain")).removesuffix(".py")
    if name not in MADE:
        raise Stop(f"--script {name}: it is pretrain or finetune")
    if not (project.folder / f"{name}.py").exists():
        raise Stop(f"{project.folder} has no {name}.py yet. Take the steps before it here first, they are small: handrail {project.folder} --until rehearse")
    return name


def base(project, name):
    """Return the folder of the pretrained model that a run begins with, if it is one on this disk outside the project, else None."""
    model = project.settings.get("finetune", {}).get("model") if name == "finetune" else project.settings.get("base")
    path = project.folder / model if model else None
    return path.resolve() if path and path.is_dir() and not path.resolve().is_relative_to(project.folder) else None


def pack(project, name, folder):
    """Copy what has to travel into `folder`; raise Stop if something is missing or cannot travel."""
    if outside := base(project, name):
        raise Stop(f"The run begins with the model in {outside}, which lies outside the project. Copy it in and say so: cp -r {outside} {project.folder}/base, then base or finetune.model = \"base\" in settings.toml")
    need = [part for part in MADE[name] if name == "pretrain" or part == "chats"]
    if missing := [part for part in need if not (project.out / part).exists()]:
        raise Stop(f"{project.out / missing[0]} is not there yet. First, here: handrail {project.folder} --until rehearse")
    folder = Path(folder)
    for pattern in CODE:
        for file in project.folder.glob(pattern):
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / file.name)
    for part in [*MADE[name], "base"]:
        source = project.folder / "base" if part == "base" else project.out / part
        if source.is_dir():
            shutil.copytree(source, folder / source.relative_to(project.folder), dirs_exist_ok=True)
    return folder
