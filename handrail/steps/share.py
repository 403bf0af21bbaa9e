"""Share: take it home."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from handrail.project import Project, Stop
from handrail.screen import Outcome
from handrail.steps.words import Words

FILES = []
USES = []

LOAD = """from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer, model = AutoTokenizer.from_pretrained("{folder}"), AutoModelForCausalLM.from_pretrained("{folder}")
print(tokenizer.decode(model.generate(**tokenizer({prompt!r}, return_tensors="pt"), max_new_tokens=40)[0]))"""
PROMPT = "One"
PRIVATE = (
    "handrail",
    "prompt",
    "data",
    "column",
    "answers",
    "pairs",
    "base",
)  # settings that may hold texts or paths
HEAD = "## What was chosen and measured"  # in the project's README; the section is written again each time


def taken(project):
    """Return (script, its file of results, the model's folder) of the exam that this project's walk ends with."""
    result = project.out / "answers.json"
    if project.settings.get("data") and not result.exists():
        return "evaluate.py", "evaluation.json", "out/model"
    return (
        "answers.py",
        result.name,
        json.loads(result.read_text())["folder"] if result.exists() else "out/finetune/model",
    )


def loss(project):
    """Return the loss that the exam wrote down."""
    result = json.loads((project.out / taken(project)[1]).read_text())
    return result["model"] if "model" in result else result["after"]["loss"]


def expect(project):
    return {"script": taken(project)[0]}


def fresh_python(folder, requirements):
    """Make a virtual environment in `folder` with exactly what requirements.txt asks for; return its python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = Path(folder) / "bin" / "python"
    done = subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-compile", "-r", requirements],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise Stop(
            f"`pip install -r requirements.txt` failed in a fresh environment:\n{done.stderr[-800:]}\nIs there a network, and room on the disk?"
        )
    return python


def copy(project, folder):
    """Copy what is needed to measure the model elsewhere: the program, the settings, the model and the tokens."""
    other = Project(folder, project.cpu)
    (other.out).mkdir(parents=True)
    for file in [*project.folder.glob("*.py"), project.folder / "settings.toml"]:
        (other.folder / file.name).write_bytes(file.read_bytes())
    for name in {"model", "tokens", "tokenizer", "chats", Path(taken(project)[2]).parent.name} - {
        "out"
    }:
        if (project.out / name).exists():
            (other.out / name).symlink_to(project.out / name)
    return other


def elsewhere(project, values):
    """Return (the loss that a copy of the project finds in a fresh environment, what three plain lines write there)."""
    alone = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    with tempfile.TemporaryDirectory() as folder:
        python = fresh_python(Path(folder) / "venv", project.folder / "requirements.txt")
        if (
            subprocess.run(
                [python, "-c", "import handrail"], cwd=folder, capture_output=True, env=alone
            ).returncode
            == 0
        ):
            raise Stop(
                "handrail is installed in the fresh environment: is it in your requirements.txt? It need not be there."
            )
        other = copy(project, Path(folder) / "project")
        script, _, model = taken(project)
        runs = [[script, *project.flags], ["-c", LOAD.format(prompt=PROMPT, folder=model)]]
        done = [
            subprocess.run(
                [python, *run], cwd=other.folder, capture_output=True, text=True, env=alone
            )
            for run in runs
        ]
        for run, result in zip(runs, done):
            if result.returncode:
                raise Stop(f"Without handrail, `python {run[0]}` failed:\n{result.stderr[-800:]}")
        return loss(other), done[1].stdout.strip()


def results(project):
    """Return the settings and the figures of the exam as Markdown tables."""
    exam = json.loads((project.out / taken(project)[1]).read_text())
    lines = (project.folder / "settings.toml").read_text(encoding="utf-8").splitlines()
    chosen = [
        line.replace("|", "\\|").split("  # ", 1)
        for line in lines
        if "  # " in line and line.split(" =")[0] not in PRIVATE
    ]
    rows = [f"| `{value}` | {reason} |" for value, reason in chosen]
    if "after" in exam:
        figures = [
            f"| {meaning} | {exam['before'][name]:.3f} | {exam['after'][name]:.3f} |"
            for name, meaning in (
                ("loss", "loss on answers never seen, nats a token"),
                ("exact", "share of them exactly right"),
            )
        ]
        return "\n".join(
            [
                "| chosen | why |",
                "|---|---|",
                *rows,
                "",
                "| | before | after |",
                "|---|---|---|",
                *figures,
            ]
        )
    names = {
        "model": "this model",
        "floor": "the floor: the lowest possible",
        "bigram": "sees one token back",
        "unigram": "knows frequencies",
        "uniform": "knows nothing",
    }
    figures = [
        f"| {meaning} | {exam[name]:.3f} |" for name, meaning in names.items() if name in exam
    ]
    return "\n".join(
        [
            "| chosen | why |",
            "|---|---|",
            *rows,
            "",
            "| loss on val, in nats a token | |",
            "|---|---|",
            *figures,
            "",
            f"{exam['bits_per_byte']:.3f} bits per byte. The longest run of tokens that it copied from its training text: {exam['copy']} "
            f"(text that nobody copied shares runs of {exam['val_copy']}).",
        ]
    )


def card(project, values, parameters):
    """Return the model card: front matter for the hub, then what a stranger needs to know."""
    world = "a built-in world of small stories (handrail's village)"
    source = (
        world
        if project.settings.get("world")
        else Path(getattr(values, "data", getattr(values, "answers", ""))).name
    )
    does = (
        "continues text. It answers no questions"
        if taken(project)[0] == "evaluate.py"
        else "answers questions of the kind it was trained on"
    )
    name = (
        Path(values.base).name if Path(values.base).is_absolute() else values.base
    )  # a path tells of its owner's machine
    base = f"base_model: {name}\n" if name else ""
    began = f"training of {name} was continued" if name else "it was trained from nothing"
    return f"""---
library_name: transformers
pipeline_tag: text-generation
{base}---

# {project.folder.name}

A small language model of {parameters:,} parameters; {began}, on {source}. It {does}. It knows
little about the world beyond its data, and may repeat passages of its data word for word.

```python
{LOAD.format(prompt=PROMPT, folder="PATH OR NAME OF THIS MODEL")}
```

{HEAD}

{results(project)}
"""


def run(project, screen):
    script, result, model = taken(project)
    if not (project.out / result).exists():
        raise Stop(
            f"There is nothing to share before the exam was taken. First: {project.command(script.removesuffix('.py'))}"
        )
    values, here, folder = project.load().values, loss(project), project.folder / model
    screen.print("  making a fresh environment from requirements.txt, without handrail ...")
    there, written = elsewhere(project, values)
    near = 1e-6 if project.cpu else 1e-3
    words = Words(project, "share")
    same = abs(there - here) < near
    checks = [
        words.check("loss without handrail", f"{there:.6f}", same, here=f"{here:.6f}"),
        words.check("three plain lines write", repr(written[-60:]), bool(written)),
    ]
    from transformers import AutoModelForCausalLM

    parameters = AutoModelForCausalLM.from_pretrained(folder).num_parameters()
    (folder / "README.md").write_text(card(project, values, parameters), encoding="utf-8")
    readme = project.folder / "README.md"
    readme.write_text(
        readme.read_text(encoding="utf-8").split(HEAD)[0].rstrip()
        + f"\n\n{HEAD}\n\n{results(project)}\n",
        encoding="utf-8",
    )
    project.commit(["README.md"], "README: what was chosen and measured")
    screen.say(
        f"Its card is {model}/README.md. Read it, and add a licence line. Then, if you like",
        [
            f"cd {project.typed}",
            f"pip install 'transformers[serving]' && transformers serve {model}     # a server on this machine",
            f"hf auth login && hf upload {project.folder.name} {model}               # on the hub, for all to see",
            f"hf upload --private {project.folder.name} {model}     # on the hub, for you alone",
        ],
    )
    return Outcome(checks, samples=[written])
