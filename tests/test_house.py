"""The house itself: which room may use which, and what is packed for people who install it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from string import Formatter

import torch
from conftest import HOUSE

# each room imports only rooms below it, and everybody may use doctor/ and program/
ROOMS = "cli walk begin cloud steps lessons cost data project launch".split()


def imported(file):
    """Return the rooms of handrail that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "handrail":
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("handrail."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            names = [alias.name.split(".") for alias in node.names]
            found |= {name[1] for name in names if name[0] == "handrail" and len(name) > 1}
    return found & set(ROOMS)


def test_imports_go_one_way():
    """A stranger can read a room without the rooms above it. What the learner owns imports nothing
    of handrail, so it runs without.
    """
    house = HOUSE / "handrail"
    for number, room in enumerate(ROOMS):
        place = house / room
        files = list(place.glob("*.py")) if place.is_dir() else [house / f"{room}.py"]
        for file in files:
            above = imported(file) & set(ROOMS[:number])
            assert not above, f"{file.relative_to(house)} imports {above}"
    for file in (house / "program").glob("*.py"):
        assert "handrail" not in {name.split(".")[0] for name in modules(file)}, file.name


def modules(file):
    """Return the names of all modules that a file imports."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def install(wheel, folder):
    """Return (Python, site) of a fresh venv with the wheel; its needs are the present one's."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", wheel]
    done = subprocess.run(pip, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    [site] = folder.glob("lib/*/site-packages")
    (site / "needed.pth").write_text(f"{Path(torch.__file__).parent.parent}\n")
    return python, site


def test_an_installed_wheel_walks_without_the_repository(tmp_path):
    """Files that are not packed (words, templates, tables of GPUs) are missed only by people who
    install handrail; here, the repository is still there and hides it. The wheel is made from the
    sdist, as for PyPI, and the command is typed in a fresh environment.
    """
    source, dist = tmp_path / "source", tmp_path / "dist"
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=HOUSE, text=True)
    for name in filter(None, tracked.split("\0")):
        if not name.startswith("bench/corpus") and (HOUSE / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(HOUSE / name, source / name)
    code = f"from setuptools import build_meta; print(build_meta.build_sdist({str(dist)!r}))"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    [sdist] = dist.glob("*.tar.gz")
    options = ["--no-deps", "--no-build-isolation", "-q", "-w", dist]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, sdist], check=True)
    [wheel] = dist.glob("*.whl")
    python, site = install(wheel, tmp_path / "venv")
    here = {file.relative_to(source) for file in (source / "handrail").rglob("*") if file.is_file()}
    packed = {file.relative_to(site) for file in (site / "handrail").rglob("*") if file.is_file()}
    assert here <= packed, sorted(here - packed)
    assert list(site.glob("handrail-*.dist-info/licenses/LICENSE"))
    skill = python.parent.parent / "share" / "handrail" / "skills" / "handrail" / "SKILL.md"
    assert skill.read_bytes() == (HOUSE / "skills" / "handrail" / "SKILL.md").read_bytes()
    [about] = site.glob("handrail-*.dist-info/METADATA")
    links = re.findall(r"\]\(([^)]*)", about.read_text(encoding="utf-8"))
    assert len(links) > 8 and all(link.startswith("https://") for link in links), links

    words = "new mine --data village --updates 20 --cpu --yes --until tokenizer".split()
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    how = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True}
    done = subprocess.run([python.with_name("handrail"), *words], **how)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    for said in ("3 of 10", "val documents", str(tmp_path / "mine")):
        assert said in done.stdout, done.stdout
    code = "import handrail; print(handrail.__file__)"
    where = subprocess.run([python, "-c", code], **how).stdout
    assert Path(where.strip()).is_relative_to(site)


def test_what_needs_no_pytorch_does_not_import_it(walked):
    """Importing PyTorch takes seconds: who asks which commands there are, how far a project is, or
    what a word means should not wait for it.
    """
    code = (
        "import sys, handrail.cli as cli; cli.main(sys.argv[1:]); sys.exit('torch' in sys.modules)"
    )
    for words in (["--help"], ["status", walked[0]], ["explain", "perplexity"], ["break"]):
        command = [sys.executable, "-c", code, *words]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0 and done.stdout, (words, done.stderr)


def test_every_problem_has_its_words():
    """A sentence that is missing in problems.md would be a traceback just when somebody needs help;
    one that nobody says is deleted.
    """
    from handrail.project import words

    places = [
        *(HOUSE / "handrail" / "data").glob("*.py"),
        *(HOUSE / "handrail" / "steps").glob("*.py"),
    ]
    known = words.parts(HOUSE / "handrail" / "data" / "problems.md")
    said = set()
    for node in (node for file in places for node in ast.walk(ast.parse(file.read_text()))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            said.add(node.value)
        if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "problem":
            continue
        names = {keyword.arg for keyword in node.keywords}
        for part in (n.value for n in ast.walk(node.args[0]) if isinstance(n, ast.Constant)):
            if not isinstance(part, str) or None in names:  # None: **values
                continue
            fields = {
                re.split(r"[.[]", name)[0] for _, name, *_ in Formatter().parse(known[part]) if name
            }
            assert fields <= names, f"problem({part!r}) needs {fields - names}"
    chapters = {"What can be wrong with data", "Documents", "Questions and answers"}
    chapters |= {"Examples for fine-tuning", "Title", ""}
    assert known.keys() - chapters <= said, known.keys() - chapters - said
