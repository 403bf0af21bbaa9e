"""Finetune: from continuing text to answering."""

import re
from argparse import Namespace
from pathlib import Path

import torch

from handrail import glossary
from handrail.budget import local
from handrail.doctor.shelf import look_at_plan
from handrail.plan import opened
from handrail.screen import Outcome, check
from handrail.steps.runs import (
    doctor_checks,
    finished,
    lr_fell,
    make_room,
    read_metrics,
    run_script,
)

TITLE = "Learn to answer"
FILES = [
    "finetune.py",
    "packing.py",
    "batches.py",
    "model.py",
    "train.py",
    "optimizer.py",
    "checkpoint.py",
    "identity.py",
    "log.py",
]
USES = ["answers", "base", "finetune"]
LEAVES = ["finetune/model/model.safetensors"]
SECONDS = (60, 180)
MORE = """Full fine-tuning moves every weight. That needs the gradient and two averages for each of them: four numbers in
memory where using the model needs one. LoRA (Hu et al. 2021) leaves them all alone and learns, beside each matrix W, a
product B·A that is added to it; A makes 16 numbers out of many, B makes many out of 16. B starts at 0, so at first nothing is
changed, and in the very first update only B moves.

A model does not grow cleverer by some hundred examples. It learns how to use what it has: the form, the tone, the length,
which questions are meant. If the answers need knowledge that it lacks, it learns to make things up in the right form."""


def expect(project):
    chosen = project.settings.get("finetune", {})
    return [
        f"{chosen.get('updates', 0):,} updates of {chosen.get('batch', 0)} examples, {chosen.get('method')} fine-tuning at a rate of {chosen.get('lr', 0):g}.",
        "The loss on answers never seen falls, and ends where it is lowest.",
        "What should move moves, and nothing else. The loss on general English rises by 5 % at most: more is forgetting.",
    ]


def values_of(project, step):
    """Return the program and the settings as the script of a step sees them."""
    program = project.load("finetune", "messages", "packing", "train", "batches", "optimizer")
    return program, program.settings.read("", project.flags, step)


def moved(project):
    """Return (names that should move and did not, names that should not and did, how many should), after two updates."""
    program, values = values_of(project, "finetune")
    accelerator = program.settings.start(values)
    model, tokenizer = program.finetune.load(values)
    chats = program.messages.load_rows(project.out / "chats" / "train.jsonl")[:16]
    rows = [row for chat in chats for row in program.messages.encode(tokenizer, chat["messages"])]
    batches = program.packing.message_batches(
        rows, Namespace(**vars(values) | {"batch": min(8, len(rows))})
    )
    before = {name: sample(p) for name, p in model.named_parameters()}
    model, optimizer = accelerator.prepare(model, program.finetune.choose_optimizer(model, values))
    model.train()
    for step in range(2):
        batch = batches(step)
        program.train.update(accelerator, model, batch, program.finetune.answer_loss, optimizer)
    plain = accelerator.unwrap_model(model)
    same = {name: torch.equal(before[name], sample(p)) for name, p in plain.named_parameters()}
    wanted = {name for name, p in plain.named_parameters() if p.requires_grad}
    accelerator.free_memory()
    return (
        [n for n in wanted if same[n]],
        [n for n in same if n not in wanted and not same[n]],
        len(wanted),
    )


def sample(tensor, most=4096):
    """Return some numbers of a tensor, spread over all of it."""
    flat = tensor.detach().flatten()
    return flat[:: max(1, len(flat) // most)].cpu().clone()


def general_loss(project, folder):
    """Return the loss of a model on plain English that it was not trained on here: the entries of handrail's glossary."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    texts = [
        meaning
        for _, meaning in re.findall(
            glossary.ENTRY, Path(glossary.__file__).with_suffix(".md").read_text()
        )
    ]
    program, values = values_of(project, "finetune")
    accelerator = program.settings.start(values)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    model = accelerator.prepare(model)
    rows = [
        [tokenizer.eos_token_id] + tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in texts
    ]
    rows = [torch.tensor(ids[: values.context]) for ids in rows]
    batches = [program.batches.to_batch(rows[i : i + 8]) for i in range(0, len(rows), 8)]
    return program.train.mean_loss(accelerator, model, batches, program.train.next_token_loss)


def own_text_loss(project, folder):
    """Return the loss of a model on the first val documents of the project's own data."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    program, values = values_of(project, "")
    accelerator = program.settings.start(values)
    end = AutoTokenizer.from_pretrained(project.out / "tokenizer").eos_token_id
    model = accelerator.prepare(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32))
    val = program.batches.load_tokens(project.out / "tokens", "val")
    exam = program.batches.val_batches(val, end, values.context, documents=200)
    return program.train.mean_loss(accelerator, model, exam, program.train.next_token_loss)


def forgot(project):
    """Return (name of the text, loss before, loss after)."""
    before = project.settings["finetune"]["model"]
    before, after = (
        (before if project.settings.get("base") else project.folder / before),
        project.out / "finetune" / "model",
    )
    own = (project.out / "tokens" / "val.bin").exists() and not project.settings.get("base")
    measure, name = (
        (own_text_loss, "the texts it was trained on") if own else (general_loss, "general English")
    )
    return name, measure(project, before), measure(project, after)


def planned(project):
    """Return the checks of what the doctor says about the plan alone, none if nothing."""
    from transformers import AutoConfig

    chosen = project.settings["finetune"]
    config = opened(AutoConfig, local(project, chosen["model"])).to_dict()
    found = list(look_at_plan([], None, config, chosen)) if project.settings.get("base") else []
    return doctor_checks(found) if found else []


def run(project, screen):
    screen.print("  two updates, to see what moves ...")
    still, wrong, tensors = moved(project)
    finished(screen, project, "finetune", project.settings["finetune"]["updates"])
    make_room(screen, project, "finetune")
    watched = run_script(project, "finetune")
    screen.print()
    metrics = read_metrics(project.out / "finetune")
    vals = [line["val_loss"] for line in metrics if "val_loss" in line]
    text, before, after = forgot(project)
    lost = (
        "It has forgotten some of what it could.",
        "a smaller rate, fewer updates, or --method lora",
    )
    if not project.settings.get("base"):
        lost = (
            "It was asked for answers only, so it unlearned the rest. out/model still writes as before.",
            "nothing, if answers are what you want; else give it some of the old texts among the answers",
        )
    checks = [
        check(
            "tensors that moved",
            f"{tensors:,}",
            f"{tensors - len(still):,}",
            not still,
            f"These should learn and do not: {still[:3]}",
            "look at `load` in finetune.py: requires_grad, target_modules",
        ),
        check(
            "frozen tensors that moved",
            0,
            len(wrong),
            not wrong,
            f"These should have stayed: {wrong[:3]}",
        ),
        check(
            "loss on answers never seen",
            f"< {metrics[0]['loss']:.3f}, the start",
            f"{vals[-1]:.3f}",
            vals[-1] < metrics[0]["loss"],
            "It has learned nothing that helps with new questions.",
            "more examples; or another rate: finetune.lr in settings.toml",
        ),
        check(
            "that loss at the end is its best",
            f"{min(vals):.3f}",
            f"{vals[-1]:.3f}",
            vals[-1] <= 1.02 * min(vals),
            "It rose while the training loss fell: the examples are being learned by heart.",
            "fewer updates: finetune.updates in settings.toml",
            "warn",
        ),
        check(
            f"loss on {text}",
            f"≤ {1.05 * before:.3f} (5 % more than before)",
            f"{after:.3f}",
            after <= 1.05 * before,
            *lost,
            "warn",
        ),
        lr_fell(metrics),
        *planned(project),
        *watched,
    ]
    tells = f"The loss on answers never seen fell from {metrics[0]['loss']:.2f} to {vals[-1]:.2f}; on {text} it went from {before:.2f} to {after:.2f}."
    plot = {
        "kind": "line",
        "x": [m["step"] for m in metrics],
        "y": [m["loss"] for m in metrics],
        "xlabel": "update",
        "ylabel": "loss on answers",
        "lines": {"never seen": vals[-1]},
    }
    return Outcome(checks, tells, plots={"Loss on the answers, update by update": plot})
