"""Finetune: from continuing text to answering."""

import json
import re
from argparse import Namespace
from pathlib import Path
from statistics import mean

import torch

from handrail import glossary
from handrail.cost.estimate import local
from handrail.doctor.shelf import look_at_plan
from handrail.plan import minutes, opened, times
from handrail.screen import Outcome, check
from handrail.steps.runs import (
    doctor_checks,
    finished,
    lr_fell,
    make_room,
    read_metrics,
    run_script,
)

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
BY_HEART = 6  # passes through the rows from which on their answers are meant to be known
KNOWN = 0.1  # nats a token: an answer at that loss is known
FORGETS = 0.1  # how much more the loss on general text may be afterwards


def rows_of(project):
    """Return how many rows there are to learn from."""
    file = project.out / "chats" / "train.jsonl"
    return len(file.read_text(encoding="utf-8").splitlines()) if file.exists() else 0


def shown(project):
    """Return how often the run goes through the rows."""
    chosen = project.settings["finetune"]
    return chosen["updates"] * chosen["batch"] / max(1, rows_of(project))


def seconds(project):
    """Return how long the run takes, by the rehearsal's own updates; None if not timed."""
    file = project.out / "rehearsal.json"
    timed = json.loads(file.read_text()).get("seconds") if file.exists() else None
    if not timed or project.settings.get("data"):
        return None  # a rehearsal of another run
    return timed * project.settings["finetune"]["updates"]


def by_heart(project):
    """Return True if the rows are shown so often that their answers are meant to be known."""
    return shown(project) >= BY_HEART


def expect(project):
    chosen, takes = project.settings["finetune"], seconds(project)
    lines = [
        f"{chosen['updates']:,} updates of {chosen['batch']} examples: {times(shown(project))} "
        f"through your {rows_of(project):,} rows"
        + (f", {minutes(takes)}" if takes else "")
        + f". {chosen['method']} fine-tuning at a learning rate of {chosen['lr']:g}.",
        "What should move moves, and nothing else.",
    ]
    if by_heart(project):
        lines += [
            f"The loss on your rows falls below {KNOWN}: the answers are then known by heart. Here "
            "that is wanted.",
            "The loss on answers never shown falls at first, then rises: nobody can guess your "
            "facts.",
        ]
    else:
        lines += ["The loss on answers never seen falls, and ends where it is lowest."]
    return [
        *lines,
        f"The loss on general English rises by at most {FORGETS:.0%}: more is forgetting.",
    ]


def values_of(project, step):
    """Return the program and the settings as the script of a step sees them."""
    program = project.load("finetune", "messages", "packing", "train", "batches", "optimizer")
    return program, program.settings.read("", project.flags, step)


def moved(project):
    """Make two updates; return (names that should move and did not, names that should not and
    did, how many should)."""
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
    """Return the loss of a model on plain English that it was not trained on here: the glossary."""
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


def again(project):
    """Return the command that fine-tunes, and asks, again."""
    return project.command("finetune" if project.settings.get("data") else "")


def more_updates(project):
    """Return the command that trains for twice as many updates, and asks again."""
    return f"{again(project)} --updates {2 * project.settings['finetune']['updates']}"


def judge_losses(project, metrics):
    """Return the checks of the losses: did it learn, is it at the end of that?"""
    losses, vals = ([m[name] for m in metrics if name in m] for name in ("loss", "val_loss"))
    fifth = max(1, len(losses) // 5)
    before, last = mean(losses[-2 * fifth : -fifth] or losses), mean(losses[-fifth:])
    falling = last < 0.98 * before and last > KNOWN
    checks = [
        check(
            "loss on your rows at the end",
            f"no longer falling (before: {before:.3f})",
            f"{last:.3f}",
            not falling,
            "The loss was still falling when the run ended: it has not learned all that it can.",
            f"more updates: {more_updates(project)}",
            "warn",
        ),
        check(
            "loss on answers never seen",
            f"< {losses[0]:.3f}, the start",
            f"{vals[-1]:.3f}",
            vals[-1] < losses[0],
            "It has learned nothing that helps with new questions.",
            "more examples; or another learning rate: --lr",
            "warn" if by_heart(project) else "fail",
        ),
    ]
    if by_heart(project):
        checks[:1] += [
            check(
                "loss on your rows, known by heart",
                f"< {KNOWN}",
                f"{last:.3f}",
                last < KNOWN,
                "It does not know the answers yet.",
                f"more updates: {more_updates(project)}",
                "warn",
            )
        ]
        return checks
    return [
        *checks,
        check(
            "that loss at the end is its best",
            f"{min(vals):.3f}",
            f"{vals[-1]:.3f}",
            vals[-1] <= 1.02 * min(vals),
            "It rose while the training loss fell: the examples are being learned by heart.",
            "fewer updates: --updates",
            "warn",
        ),
    ]


def judge_forgetting(project, text, before, after):
    """Return the check of what the model could do before."""
    fewer = max(1, round(0.7 * project.settings["finetune"]["updates"]))
    lost = (
        f"That loss is {after / before - 1:.0%} higher: it has forgotten some of what it could. "
        + ("Knowing answers by heart has that price. " if by_heart(project) else "")
        + "As a helper for your questions it may still be all you need.",
        f"fewer updates cost less: {again(project)} --updates {fewer}",
    )
    if not project.settings.get("base"):
        lost = (
            "It was asked for answers only, so it unlearned the rest. out/model still writes as "
            "before.",
            "nothing, if answers are what you want; else add some of the old texts to the answers",
        )
    return check(
        f"loss on {text}",
        f"≤ {(1 + FORGETS) * before:.3f} ({FORGETS:.0%} more than before)",
        f"{after:.3f}",
        after <= (1 + FORGETS) * before,
        *lost,
        "warn",
    )


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
        *judge_losses(project, metrics),
        judge_forgetting(project, text, before, after),
        lr_fell(metrics),
        *planned(project),
        *watched,
    ]
    tells = (
        f"The loss on your rows fell from {metrics[0]['loss']:.2f} to {metrics[-1]['loss']:.2f}, "
        f"in {times(shown(project))}. On answers never seen it ends at {vals[-1]:.2f}; on {text} "
        f"it went from {before:.2f} to {after:.2f} ({after / before - 1:+.0%})."
    )
    plot = {
        "kind": "line",
        "x": [m["step"] for m in metrics],
        "y": [m["loss"] for m in metrics],
        "xlabel": "update",
        "ylabel": "loss on answers",
        "lines": {"never seen": vals[-1]},
    }
    return Outcome(checks, {"tells": tells}, plots={"Loss on the answers, update by update": plot})
