"""The house itself: which room may use which, and what is packed for people who install it."""

import ast
import os
import re
import shutil
import subprocess
import sys
from string import Formatter

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


def test_an_installed_wheel_walks_without_the_repository(tmp_path):
    """Files that are not packed (words, templates, tables of GPUs) are missed only by people who
    install handrail; here, the repository is still there and hides it.
    """
    source, site = tmp_path / "source", tmp_path / "site"
    skipped = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(HOUSE / "handrail", source / "handrail", ignore=skipped)
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(HOUSE / name, source / name)
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", site, source]
    done = subprocess.run(install, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    here = {file.relative_to(source) for file in (source / "handrail").rglob("*") if file.is_file()}
    packed = {file.relative_to(site) for file in (site / "handrail").rglob("*") if file.is_file()}
    assert here <= packed, sorted(here - packed)

    code = "import sys, handrail.cli as cli; print(cli.__file__); sys.exit(cli.main())"
    words = "new mine --data village --cpu --yes --until data".split()
    done = subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(site)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert done.stdout.startswith(str(site)) and "val documents" in done.stdout


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
