"""Share: check the project without handrail, and write a model card."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from jinja2 import Environment, FileSystemLoader

from handrail.project.project import Project, Stop, read_settings
from handrail.project.screen import Outcome
from handrail.steps.words import Words

LOAD = """from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "{folder}"
tokenizer, model = (kind.from_pretrained(folder) for kind in (AutoTokenizer, AutoModelForCausalLM))
ids = tokenizer({prompt!r}, return_tensors="pt")
print(tokenizer.decode(model.generate(**ids, max_new_tokens=40)[0]))"""
PROMPT = "One"
PRIVATE = {"handrail", "prompt", "data", "column", "answers", "pairs", "base"}  # texts or paths
HEAD = "## What was chosen and measured"  # in the project's README; that part is written again
GUESSERS = {
    "model": "this model",
    "floor": "the lowest possible loss",
    "bigram": "a guesser that sees one token back",
    "unigram": "a guesser that knows how common each token is",
    "uniform": "a guesser that knows nothing",
}


def exam_of(project):
    """Return (script, its file of results, the model's folder) of the walk's last exam."""
    result = project.out / "answers.json"
    if project.settings.get("data") and not result.exists():
        return "evaluate.py", project.out / "evaluation.json", "out/model"
    found = json.loads(result.read_text())["folder"] if result.exists() else "out/finetune/model"
    return "answers.py", result, found


def loss(project):
    """Return the loss that the exam wrote down."""
    result = json.loads(exam_of(project)[1].read_text())
    return result["model"] if "model" in result else result["after"]["loss"]


def expect(project):
    return {"script": exam_of(project)[0]}


def fresh_python(folder, requirements):
    """Return the Python of a new virtual environment with what requirements.txt asks for."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = Path(folder) / "bin" / "python"
    install = [python, "-m", "pip", "install", "-q", "--no-compile", "-r", requirements]
    done = subprocess.run(install, capture_output=True, text=True)
    if done.returncode:
        raise Stop(
            "`pip install -r requirements.txt` failed in a fresh environment:\n"
            f"{done.stderr[-800:]}\nIs there a network, and room on the disk?"
        )
    return python


def copy(project, folder):
    """Copy what measuring the model elsewhere needs: program, settings, model and tokens."""
    other = Project(folder, project.cpu)
    other.out.mkdir(parents=True)
    for file in [*project.folder.glob("*.py"), project.folder / "settings.toml"]:
        (other.folder / file.name).write_bytes(file.read_bytes())
    run = Path(exam_of(project)[2]).parent.name  # "out", or such as "finetune"
    for name in {"model", "tokens", "tokenizer", "chats", run} - {"out"}:
        if (project.out / name).exists():
            (other.out / name).symlink_to(project.out / name)
    return other


def elsewhere(project):
    """Return (the loss, what three plain lines write) in a fresh environment without handrail."""
    script, _, model = exam_of(project)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}

    def run(python, *words, cwd):
        command = [python, *words]
        return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment)

    with tempfile.TemporaryDirectory() as folder:
        python = fresh_python(Path(folder) / "venv", project.folder / "requirements.txt")
        if run(python, "-c", "import handrail", cwd=folder).returncode == 0:
            raise Stop(
                "handrail is installed in the fresh environment: is it in your requirements.txt? "
                "It need not be there."
            )
        other = copy(project, Path(folder) / "project")
        code = LOAD.format(prompt=PROMPT, folder=model)
        for words in ([script, *project.flags], ["-c", code]):
            done = run(python, *words, cwd=other.folder)
            if done.returncode:
                raise Stop(f"Without handrail, `python {words[0]}` failed:\n{done.stderr[-800:]}")
        return loss(other), done.stdout.strip()


def page(project, template, **values):
    """Return card.md or results.md, filled in."""
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), trim_blocks=True)
    chosen = read_settings(project.folder / "settings.toml")
    values["chosen"] = [row for row in chosen if row[2] and row[0] not in PRIVATE]
    values["exam"] = json.loads(exam_of(project)[1].read_text())
    return pages.get_template(f"{template}.md.jinja").render(guessers=GUESSERS, **values)


def card(project, parameters):
    """Return the model card: front matter for the hub, then what a stranger needs to know."""
    chosen = project.settings
    base = chosen.get("base", "")
    if Path(base).is_absolute():
        base = Path(base).name  # a path says something about its owner's machine
    source = Path(chosen.get("data") or chosen.get("answers", "")).name
    if chosen.get("world"):
        source = "a built-in world of small stories (handrail's village)"
    return page(
        project,
        "card",
        base=base,
        source=source,
        name=project.folder.name,
        parameters=parameters,
        code=LOAD.format(prompt=PROMPT, folder="PATH OR NAME OF THIS MODEL"),
    )


def run(project, screen):
    script, result, model = exam_of(project)
    if not result.exists():
        first = project.command(script.removesuffix(".py"))
        raise Stop(f"There is nothing to share before the exam was taken. First: {first}")
    here, folder = loss(project), project.folder / model
    screen.print("  making a fresh environment from requirements.txt, without handrail ...")
    there, written = elsewhere(project)
    words = Words(project, "share")
    same = abs(there - here) < (1e-6 if project.cpu else 1e-3)
    checks = [
        words.check("loss without handrail", f"{there:.6f}", same, here=f"{here:.6f}"),
        words.check("three plain lines write", repr(written[-60:]), bool(written)),
    ]
    from transformers import AutoModelForCausalLM

    parameters = AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    (folder / "README.md").write_text(card(project, parameters), encoding="utf-8")
    readme = project.folder / "README.md"
    text = readme.read_text(encoding="utf-8").split(HEAD)[0].rstrip()
    readme.write_text(f"{text}\n\n{page(project, 'results')}\n", encoding="utf-8")
    project.commit(["README.md"], "README: what was chosen and measured")
    name = project.folder.name
    screen.say(
        f"Its card is {model}/README.md. Read it, and add a licence line. Then, if you like",
        [
            f"cd {project.typed}",
            f"a server on this machine: pip install 'transformers[serving]' && "
            f"transformers serve {model}",
            f"on the hub, for all to see: hf auth login && hf upload {name} {model}",
            f"on the hub, for you alone: hf upload --private {name} {model}",
        ],
    )
    return Outcome(checks, samples=[written])
