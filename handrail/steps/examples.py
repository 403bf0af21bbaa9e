"""Examples: see exactly what is trained."""

import json
import math
import random
from itertools import islice

import numpy as np

from handrail import village
from handrail.chats import read_chats, split, write_chats
from handrail.plan import PATIENCE, USED, base_parameters, machine
from handrail.project import Stop
from handrail.screen import Outcome, check
from handrail.steps import OPEN

TITLE = "The examples"
FILES = ["messages.py"]
USES = ["answers", "base", "finetune"]
LEAVES = ["chats/train.jsonl", "chats/val.jsonl"]
SECONDS = (20, 40)
MORE = """Nearly everything that goes wrong in fine-tuning goes wrong here, and makes no sound: the question is trained as
well as the answer, or the end mark is not, or a long row loses its answer where it is cut. All of that can be seen, so look
at the rows below: what is bright is learned, what is dim is only read.

A template is nothing but text around the turns. The model has never been told that `<|im_start|>` begins a turn; it learns
that as it learns every other token. So a model must be asked in the form that it was trained in, to the last line break."""

STORIES = 5_760  # of the village, with four questions each
OWN = {"lr": 7e-3, "batch": 16}  # for a small model of one's own: tried, not calculated
RATES = {"full": 2e-5, "lora": 2e-4}  # for a model that others trained; LoRA wants about ten times as much
GB = 1e9


def expect(project):
    return [
        "Every row ends with the mark that ends an answer, and that mark is trained.",
        "The question is never trained. Rows with nothing to train: 0. Answers cut off: 0.",
        "No question stands in train and in val.",
    ]


# --- the rows ---


def village_chats(number, seed, questions):
    """Return `number` new stories, each with up to `questions` questions and answers as one chat.

    Three of five answers are whole sentences, the others a few words; all forms of the last one are accepted. Names
    stand behind a space in all of them, as they do in every story: the model knows " Mia" and not "Mia".
    """
    rng, found = random.Random(seed), []
    for _ in range(number):
        pen = village.Writer(rng)
        parts = village.tell(pen)
        asked = {a["question"]: a for a in (village.ask(rng, parts) for _ in range(2 * questions))}
        turns = []
        for a in list(asked.values())[:questions]:
            turns += [("user", a["question"]), ("assistant", a["short" if rng.random() < 0.4 else "whole"])]
        turns[0] = "user", "".join(pen.parts) + "\n" + turns[0][1]
        accept = [a[form] for form in ("answer", "short", "whole")]
        found.append({"messages": [{"role": role, "content": text} for role, text in turns], "accept": accept})
    return found


def sides(project, screen):
    """Return (train, val, what was read): lists of chats, from the file that was named or from the village."""
    source = project.settings.get("answers")
    if source:
        path = project.folder / source
        chats = read_chats(path if path.exists() else hub_rows(project, source), source)
        if chats.pairs:
            raise Stop(f"{source} holds pairs of a better and a worse answer. Those are for: handrail align --answers {source}")
        report(screen, chats)
        train, val = split(chats.rows)
        return train, val, chats
    if not project.settings.get("world"):
        raise Stop(
            "Which questions and answers? Name a file (.jsonl .json .csv .parquet) or a hub data set:\n"
            f"  handrail finetune {project.folder} --answers qa.jsonl\nThe simplest form, one a line: "
            '{"question": "Hello", "answer": "Hi!"}'
        )
    return village_chats(STORIES, 5, questions=4), village_chats(400, 6, questions=1), None


def hub_rows(project, source):
    """Return the rows of a hub data set, at most 50,000 of them."""
    from datasets import load_dataset

    from handrail import sources

    sources.locate(project, source)
    name, config, part = (source.split(":") + ["", ""])[:3]
    try:
        return list(islice(load_dataset(name, config or None, split=part or "train", streaming=True), 50_000))
    except Exception as error:
        raise Stop(sources.hub_fault(source, error)) from error


def report(screen, chats):
    """Say in which form the rows were found, and name those that cannot be used."""
    lines = [f"{len(chats.rows):,} of {chats.total:,} rows can be used: {chats.form}.", *chats.notes]
    lines += [f"left out, {reason}: {len(where):,} ({', '.join(where[:3])}{' ...' if len(where) > 3 else ''})" for reason, where in chats.left_out.items()]
    screen.say("What was found", lines)


# --- the plan ---


def decide_method(project, parameters):
    """Choose full fine-tuning or LoRA from the memory there is; return (method, why)."""
    memory = machine(project)["memory_gb"] * GB
    full, lora = 16 * parameters / GB, 4.5 * parameters / GB
    if not project.settings.get("base"):
        return "full", f"your own model is small: all of its weights may move ({full:.1f} GB)"
    if lora * GB > memory:
        raise Stop(
            f"{parameters / 1e9:.2g} billion weights need {lora:.0f} GB with LoRA, this machine has {memory / GB:.0f} GB. Choose a smaller "
            "model (--from), or try QLoRA, on CUDA: pip install bitsandbytes, and in `load` of finetune.py:\n"
            "  from transformers import BitsAndBytesConfig\n"
            '  four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)\n'
            "  model = AutoModelForCausalLM.from_pretrained(settings.model, quantization_config=four)"
        )
    return "lora", f"needs about {lora:.1f} GB where full fine-tuning needs {full:.1f}, and forgets less of what the model knew"


def plan(project, rows):
    """Write the settings of the fine-tuning, each with its reason; what a person set stays."""
    base, fixed = project.settings.get("base"), project.settings.get("finetune", {})
    parameters = base_parameters(base or str(project.out / "model"))
    method, why = (fixed["method"], "") if "method" in fixed else decide_method(project, parameters)
    lengths = np.array([len(ids) for ids, _ in rows])
    longest = 2 ** math.ceil(math.log2(lengths.max()))
    context = fixed.get("context") or min(max(longest, 512 if base else 256), 1024 if project.cpu else 4096)
    batch = fixed.get("batch") or OWN["batch"]
    epochs = 3 if base else 1
    operations = machine(project)["tflops"] * 1e12 * USED / 2 * PATIENCE[project.cpu]
    seen = min(epochs * len(rows), operations / (6 * parameters * lengths.mean()))
    updates = max(20, math.ceil(seen / batch))
    chosen = {
        "model": (base or "out/model", "the model that learns to answer"),
        "method": (method, why),
        "context": (context, f"tokens in one packed row; your longest example has {lengths.max()}"),
        "batch": (batch, "examples in an update"),
        "updates": (updates, f"{updates * batch / len(rows):.1f} times through your {len(rows):,} rows"),
        "lr": (RATES[method] if base else OWN["lr"], "LoRA wants about ten times the rate of full fine-tuning" if base else "tried out for small models"),
    }
    for name, (value, reason) in chosen.items():
        if name not in fixed:
            project.decide(f"finetune.{name}", value, reason)
    return {name: reason for name, (_, reason) in chosen.items() if name not in fixed}


# --- what is shown and judged ---


def show(screen, tokenizer, rows):
    """Show three rows, what is trained bright, what is only read dim; return them as text for the notebook."""
    shown = []
    screen.console.print("[bold cyan]What is trained[/]  ([green]bright[/]: learned · [dim]dim[/]: only read)")
    for ids, trained in rows[:3]:
        pieces = [(tokenizer.decode([i]), said) for i, said in zip(ids, trained)]
        screen.tokens(pieces)
        shown.append("".join(f"[{piece}]" if said else piece for piece, said in pieces))
    return shown


def judge(rows, end, context, copied, overlap):
    """Return the checks of the rows as finetune.py will have them: what lies beyond the context is cut off."""
    cut = sum(sum(trained[context:]) for _, trained in rows)
    rows = [(ids[:context], trained[:context]) for ids, trained in rows]
    said = np.array([sum(trained) for _, trained in rows])
    last = sum(ids[-1] == end and trained[-1] for ids, trained in rows)
    first = sum(bool(trained[0]) for _, trained in rows)
    low, half, high = np.percentile(said, [10, 50, 90]).astype(int)
    return [
        check("rows whose end mark is trained", f"{len(rows):,}", f"{last:,}", last == len(rows), "It would never learn to stop.",
              "if answers are cut off (below), a larger `finetune.context`; else look at the template: `tokenizer.chat_template`"),
        check("rows with nothing to train", 0, f"{(said == 0).sum()}", bool((said > 0).all()), "They only cost time.",
              "are their questions longer than the context? Set a larger `finetune.context` in settings.toml, or shorten them"),
        check("rows trained from their first token on", 0, first, first == 0, "The question would be trained as well as the answer."),
        check("tokens trained in a row: 10 % · half · 90 %", "a few or more", f"{low} · {half} · {high}", half >= 1),
        check("tokens of answers cut off", 0, f"{cut:,}", cut == 0, f"Rows longer than {context} tokens lose their end.", "set a larger `finetune.context` in settings.toml", "warn"),
        check("exact copies", "1 % or less", f"{copied / len(rows):.1%}", copied <= 0.01 * len(rows), "What stands there often is learned by heart.", "remove them", "warn"),
        check("questions in train and in val", 0, overlap, overlap == 0, "Then the exam is no exam."),
    ]  # fmt: skip


def run(project, screen):
    if not project.settings.get("base") and not (project.out / "model").exists():
        raise Stop("There is no model to fine-tune yet. First the walk: handrail. Or start from an open one: --from " + OPEN)
    train, val, chats = sides(project, screen)
    if len(train) < 8 or not val:
        raise Stop(f"{len(train)} examples to learn from and {len(val)} to ask: too few. Some dozens are the least, some hundreds are better.")
    folder = project.out / "chats"
    folder.mkdir(parents=True, exist_ok=True)
    for side, rows in (("train", train), ("val", val)):
        write_chats(rows, folder / f"{side}.jsonl")
    program = project.load("messages")
    tokenizer, end = dressed(project, program)
    rows = encode_all(program, tokenizer, train)
    chosen = plan(project, rows)
    context = project.settings["finetune"]["context"]
    asked = [{next(m["content"] for m in chat["messages"] if m["role"] == "user") for chat in part} for part in (train, val)]
    checks = judge(rows, end, context, chats.copies if chats else 0, len(asked[0] & asked[1]))
    marks = [tokenizer.decode([end])] + (["<|im_start|>"] if tokenizer.chat_template == program.messages.CHATML else [])
    single = all(len(tokenizer(mark, add_special_tokens=False)["input_ids"]) == 1 for mark in marks)
    checks.append(check("marks of the template that are one token", ", ".join(marks), "yes" if single else "no", single, "They would be read as plain letters."))
    samples = show(screen, tokenizer, rows)
    screen.say("Chosen from data and machine, in settings.toml", [f"finetune.{name} = {project.settings['finetune'][name]}: {why}" for name, why in chosen.items()])
    part = sum(sum(trained) for _, trained in rows) / sum(len(ids) for ids, _ in rows)
    tells = f"{len(train):,} examples to learn from, {len(val):,} to ask later. Of all tokens {part:.0%} are learned; the others are read to understand the question."
    return Outcome(checks, tells, samples)


def dressed(project, program):
    """Return (tokenizer with a chat template, end mark), as finetune.py will have them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = project.settings.get("base") or project.out / "model"
    try:
        tokenizer, model = AutoTokenizer.from_pretrained(name), AutoModelForCausalLM.from_pretrained(name)
    except (OSError, ValueError) as error:
        raise Stop(f"The model {name} could not be opened: {str(error).splitlines()[0]}\nIf it asks who you are: hf auth login") from error
    try:
        program.messages.add_template(tokenizer, model)
    except ValueError as error:
        raise Stop(f"The chat template of {name} cannot be trained on: {error}. Choose another model, or give its tokenizer another template.") from error
    return tokenizer, model.generation_config.eos_token_id


def encode_all(program, tokenizer, chats):
    """Return all rows (ids, trained); what the template refuses (a system turn, say) becomes a Stop that names the row."""
    rows = []
    for number, chat in enumerate(chats, start=1):
        try:
            rows += program.messages.encode(tokenizer, chat["messages"])
        except Exception as error:
            said = json.dumps(chat["messages"], ensure_ascii=False)[:200]
            raise Stop(f"The model's chat template refuses example {number} ({said} ...): {type(error).__name__}: {error}") from error
    return rows
