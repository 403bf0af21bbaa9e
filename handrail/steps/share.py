"""Share: check the project without handrail; a model card, and files for other programs."""

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

from handrail.project.project import Project, Stop, stop
from handrail.project.screen import Outcome
from handrail.steps.card import END, card, checked, choose, from_hub, own_files, page
from handrail.steps.words import Words, shown_if

FILES = []
USES = ["license", "language"]
LEAVES = ["answers.json"]  # not made here: after the exam of another model, share that one

LOAD = """from transformers import AutoModelForCausalLM, AutoTokenizer

folder = "{folder}"
tokenizer, model = (kind.from_pretrained(folder) for kind in (AutoTokenizer, AutoModelForCausalLM))
{asked}
ids = tokenizer(text, return_tensors="pt", add_special_tokens=False)
print(tokenizer.decode(model.generate(**ids, max_new_tokens=40)[0]))"""
ASKED = {  # what the model reads, as in chat.py
    "evaluate.py": 'text = tokenizer.eos_token + "One"',
    "answers.py": """asked = [{"role": "user", "content": "Hello"}]
text = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)""",
}
PROMPT, UNNAMED = "One", "PATH OR NAME OF THIS MODEL"
HEAD = "## What was chosen and measured"  # of README and card


def exam_of(project):
    """Return (script, its file of results, the model's folder) of the walk's last exam."""
    result = project.out / "answers.json"
    taken = result.exists() and project.record("answers")
    if project.settings.get("data") and not taken:
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
        code = LOAD.format(asked=ASKED[script], folder=model)
        for words in ([script, *project.flags], ["-c", code]):
            done = run(python, *words, cwd=other.folder)
            if done.returncode:
                raise Stop(f"Without handrail, `python {words[0]}` failed:\n{done.stderr[-800:]}")
        return loss(other), done.stdout.strip()


def converted(project, words, pages, model, tokenizer):
    """Write the model as GGUF files with a Modelfile; return the check of what they write."""
    from handrail.steps import gguf_file

    place, kind = project.out / "gguf", model.config.model_type
    for file in gguf_file.files_in(place).values():
        file.unlink(missing_ok=True)  # perhaps of another model
    if why := gguf_file.refusal(model, tokenizer):
        quoted = shlex.quote(model.name_or_path)
        return words.check(why, kind, False, "warn", model=quoted)
    place.mkdir(exist_ok=True)
    gguf_file.write(model, tokenizer, place, project.folder.name)
    values = gguf_file.modelfile(model, tokenizer) | {"name": slug(project)}
    pages.write(place / "Modelfile", page(project, "Modelfile", **values))
    prompt = project.settings.get("prompt") or PROMPT
    here, there = gguf_file.compared(model, tokenizer, place, prompt)
    same = sum(a == b for a, b in zip(here, there, strict=False))
    said = f"{same} of {len(here)} tokens the same"
    return words.check("the GGUF writes the same", said, here == there)


def slug(project):
    """Return the project's name as Ollama and the hub take it."""
    return re.sub("[^a-z0-9]+", "-", project.folder.name.lower()).strip("-") or "my-model"


class Pages:
    """Pages that are written again each time; what their owner changed is never lost."""

    def __init__(self, project, screen):
        self.project, self.screen = project, screen
        note = project.record("share") or {"values": {}}
        self.known = note["values"].get("pages", {})  # path: a checksum of what was written

    def write(self, file, text):
        """Write a page. If our part of it was changed, it stays, and the new one goes to out/."""
        old = file.read_text(encoding="utf-8") if file.exists() else ""
        (before, _, own), (new, _, rest) = old.partition(END), text.partition(END)
        name, summed = str(file.relative_to(self.project.folder)), checksum(new)
        if old and checksum(before) != self.known.get(name):
            file, own, summed = self.project.out / f"{file.name}.new", "", None
            said = f"{name} was changed by hand, so it stays. With what is new: out/{file.name}"
            self.screen.say("Yours stays", said)
        file.write_text(f"{new}{END}{own or rest}", encoding="utf-8")
        if summed:
            self.known[name] = summed


def checksum(text):
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def write_pages(project, words, pages, folder, number):
    """Write the model card and the project's README.md; return the check of the card."""
    exam = json.loads(exam_of(project)[1].read_text())
    code = LOAD.format(asked=ASKED[exam_of(project)[0]], folder=UNNAMED)
    pages.write(folder / "README.md", card(project, number, exam, code))
    said, verdict = checked((folder / "README.md").read_text(encoding="utf-8"))
    readme = project.folder / "README.md"
    if readme.exists():
        project.commit(["README.md"], "README as it was")  # with what its owner wrote
    text = readme.read_text(encoding="utf-8") if readme.exists() else ""
    above, _, below = text.partition(HEAD)
    new, _, rest = page(project, "results.md", exam=exam).partition(END)
    text = f"{above.rstrip()}\n\n{new}{END}{below.partition(END)[2] or rest}"
    readme.write_text(text, encoding="utf-8")
    project.commit(["README.md"], "README: what was chosen and measured")
    return words.check("the card, checked by the hub", said, verdict == "pass", verdict)


def run(project, screen):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    script, result, folder = exam_of(project)
    if not result.exists():
        first = project.command(script.removesuffix(".py"))
        raise Stop(f"There is nothing to share before the exam was taken. First: {first}")
    newest = os.path.relpath(project.load("chat").chat.newest(project.out), project.folder)
    if newest not in (folder, "out/model"):
        first = project.command("answers")
        raise Stop(f"The newest model is {newest}; the exam was of {folder}. First: {first}")
    choose(project, screen, project.folder / folder / "README.md")
    here, words = loss(project), Words(project, "share")
    screen.print("  making a fresh environment from requirements.txt, without handrail ...")
    there, written = elsewhere(project)
    same = abs(there - here) < (1e-6 if project.cpu else 1e-3)
    model = AutoModelForCausalLM.from_pretrained(project.folder / folder, dtype="float32")
    tokenizer = AutoTokenizer.from_pretrained(project.folder / folder)
    if script == "evaluate.py":
        tokenizer.chat_template = None  # of the base: this model continues texts
    pages = Pages(project, screen)
    checks = [
        words.check("loss without handrail", f"{there:.6f}", same, here=f"{here:.6f}"),
        words.check("three plain lines write", repr(written[-60:]), bool(written)),
        converted(project, words, pages, model, tokenizer),
        write_pages(project, words, pages, project.folder / folder, model.num_parameters()),
    ]
    prompt = shlex.quote(project.settings.get("prompt") or PROMPT)
    shown = {"model": folder, "name": slug(project), "folder": project.typed, "prompt": prompt}
    shown |= shown_if(made=checks[2].verdict == "pass", open=not project.settings.get("license"))
    kind = shown_if(texts=script == "evaluate.py", chats=script == "answers.py")
    screen.say("Use it elsewhere", words.say("Use it", **shown | kind))
    return Outcome(checks, kind | {"pages": pages.known}, [written])


def push(project, screen, name):
    """Upload the model and what was made of it to the hub, after a yes."""
    from huggingface_hub import HfApi

    words, chosen = Words(project, "share"), project.settings
    script, _, model = exam_of(project)
    parts = [folder for folder in (model, "out/gguf") if (project.folder / folder).exists()]
    commands = [f"`hf upload --private {name} {folder} .`" for folder in parts]
    hub, base = ", ".join(from_hub(project)), chosen.get("base")
    own = own_files(project)
    shown = shown_if(made=chosen.get("world"), own=own, open=not chosen.get("license"))
    shown |= shown_if(copies=own and script == "evaluate.py")
    shown |= {"me": chosen.get("me"), "hub": hub or None, "base": base or None, "name": name}
    screen.say("What is in it", words.say("Push", **shown))
    screen.say("The upload, by hand", [f"`cd {project.typed}`", *commands])
    if not screen.yes and screen.ask("Upload it? Type yes:").lower() != "yes":
        raise stop("not uploaded")
    try:
        api = HfApi()
        api.create_repo(name, private=True, exist_ok=True)
        for folder in parts:
            api.upload_folder(repo_id=name, folder_path=project.folder / folder)
    except Exception as error:  # of the network, the login or the hub, in whatever words
        said = f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
        raise stop("upload failed", name=name, said=said) from error
    screen.say("Uploaded", words.say("Pushed", name=name))
