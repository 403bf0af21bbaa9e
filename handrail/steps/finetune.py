"""Finetune: from continuing text to answering."""

import json
from argparse import Namespace
from statistics import mean

from handrail.cost.estimate import local
from handrail.project import glossary
from handrail.project.plan import BY_HEART, minutes, times
from handrail.project.pretrained import opened
from handrail.project.screen import Outcome, check
from handrail.steps.runs import (
    finished,
    lr_fell,
    make_room,
    read_metrics,
    run_script,
    whole_log,
)
from handrail.steps.words import Words, shown_if

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
LEARNS = "chats/train.jsonl"
METHODS = {"full": "full, all parameters move", "lora": "LoRA"}
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
    chosen, takes, heart = project.settings["finetune"], seconds(project), by_heart(project)
    found = {"updates": chosen["updates"], "batch": chosen["batch"], "rows": rows_of(project)}
    found |= {"method": METHODS.get(chosen["method"], chosen["method"]), "lr": chosen["lr"]}
    found |= {"passes": times(shown(project))}
    found |= {"takes": minutes(takes) if takes else None}
    base = project.settings.get("base")
    found |= shown_if(heart=heart, once=not heart, open=base, own=not base)
    return found | {"text": old_text(project), "known": KNOWN, "forgets": FORGETS}


def values_of(project, step):
    """Return the program and the settings as the script of a step sees them."""
    program = project.load("finetune", "messages", "packing", "train", "batches", "optimizer")
    return program, program.settings.read("", project.flags, step)


def moved(project):
    """Make two updates, and see which tensors they moved.

    Return (names that should move and did not, that should not and did, how many should).
    """
    import torch

    program, values = values_of(project, "finetune")
    accelerator = program.settings.start(values)
    model, tokenizer = program.finetune.load(values)
    chats = program.messages.load_rows(project.out / "chats" / "train.jsonl")[:16]
    rows = [row for chat in chats for row in program.messages.encode(tokenizer, chat["messages"])]
    few = Namespace(**vars(values) | {"batch": min(8, len(rows))})
    batches = program.packing.message_batches(rows, few)
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
    still = [name for name in wanted if same[name]]
    wrong = [name for name in same if name not in wanted and not same[name]]
    return still, wrong, len(wanted)


def sample(tensor, most=4096):
    """Return some numbers of a tensor, spread over all of it."""
    flat = tensor.detach().flatten()
    return flat[:: max(1, len(flat) // most)].cpu().clone()


def own_texts(project):
    """Return True if the model that is fine-tuned was trained here, on the project's own texts."""
    return (project.out / "tokens" / "val.bin").exists() and not project.settings.get("base")


def old_text(project):
    """Return the name of the text on which forgetting is measured."""
    return "the texts it was trained on" if own_texts(project) else "general English"


def old_batches(project, program, values, tokenizer):
    """Return batches of that text: the first val documents, or else the glossary's plain English.

    The glossary is text that the model was not trained on here.
    """
    import torch

    if own_texts(project):
        val = program.batches.load_tokens(project.out / "tokens", "val")
        end, chosen = tokenizer.eos_token_id, program.values
        return program.batches.val_batches(val, end, chosen, documents=200)
    rows = []
    for meaning in glossary.words().values():
        ids = tokenizer(meaning, add_special_tokens=False)["input_ids"]
        rows.append(torch.tensor([tokenizer.eos_token_id, *ids][: values.context]))
    return [program.batches.to_batch(rows[i : i + 8]) for i in range(0, len(rows), 8)]


def old_loss(project, folder):
    """Return the loss of the model in a folder on that text."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    program, values = values_of(project, "finetune")
    accelerator = program.settings.start(values)
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    model = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False
    )
    batches = old_batches(project, program, values, tokenizer)
    loss = program.train.next_token_loss
    return program.train.mean_loss(accelerator, accelerator.prepare(model), batches, loss)


def planned(project):
    """Return a check of the learning rate where it is one of the other method, else none."""
    from transformers import AutoConfig

    if not project.settings.get("base"):
        return []
    chosen = project.settings["finetune"]
    config = opened(AutoConfig, local(project, chosen["model"])).to_dict()
    usual = usual_rates(chosen.get("method"), config.get("hidden_size", 0))
    if usual[0] <= chosen["lr"] < usual[1]:
        return []
    return [
        check(
            "learning rate",
            f"{usual[0]:g} to {usual[1]:g}",
            f"{chosen['lr']:g} ({chosen['method']})",
            False,
            "This is a rate of the other method: LoRA needs about ten times that of training all "
            "weights of a pretrained model.",
            "1e-4 to 5e-4 for LoRA, 1e-5 to 5e-5 for all weights: change lr in settings.toml",
            otherwise="warn",
        )
    ]


def usual_rates(method, width):
    """Return (lowest, highest) learning rate that is not one of the other method."""
    if method == "lora":
        return 5e-5, 1.0
    return 0.0, 1e-4 if method == "full" and width >= 512 else 1.0


def again(project):
    """Return the command that fine-tunes, and asks, again."""
    return project.command("finetune" if project.settings.get("data") else "")


def more_updates(project):
    """Return the command that trains for twice as many updates, and asks again."""
    return f"{again(project)} --updates {2 * project.settings['finetune']['updates']}"


def facts(metrics):
    """Return the values of the step's words that follow from the run; None what was not written."""
    found = dict.fromkeys(("first", "before", "last", "val", "best"))
    losses = [line["loss"] for line in metrics]
    vals = [line["val_loss"] for line in metrics if "val_loss" in line]
    if losses:
        fifth = max(1, len(losses) // 5)
        found["first"] = losses[0] if metrics[0]["step"] == 1 else None
        found["before"] = mean(losses[-2 * fifth : -fifth] or losses)
        found["last"] = mean(losses[-fifth:])
    if vals:
        found |= {"val": vals[-1], "best": min(vals)}
    return found


def judge_losses(words, found):
    """Return the checks of the losses: did it learn, and has it learned all that it can?"""
    heart, checks = found["heart"] is not None, []
    first, last, val = (found[name] for name in ("first", "last", "val"))
    if last is not None and last > KNOWN:
        falling, name = last < 0.98 * found["before"], "loss on your rows at the end"
        checks.append(words.check(name, f"{last:.3f}", not falling, "warn", **found))
    if last is not None and heart:
        name = "loss on your rows, known by heart"
        checks.append(words.check(name, f"{last:.3f}", last < KNOWN, "warn", **found))
    if first is not None and val is not None:
        name, verdict = "loss on answers never seen", "warn" if heart else "fail"
        checks.append(words.check(name, f"{val:.3f}", val < first, verdict, **found))
    if val is not None and not heart:
        name, good = "loss on answers never seen, at the end", val <= 1.02 * found["best"]
        checks.append(words.check(name, f"{val:.3f}", good, "warn", **found))
    return checks


def forgot(project):
    """Return what became of what the model could do before, as values of the words."""
    model, base = project.settings["finetune"]["model"], project.settings.get("base")
    was = old_loss(project, model if base else project.folder / model)
    now = old_loss(project, project.out / "finetune" / "model")
    rise = now / was - 1
    found = {"was": was, "now": now, "rise": rise, "answer": f"{rise:+.0%}"}
    fewer = max(1, round(0.7 * project.settings["finetune"]["updates"]))
    return found | {"most": (1 + FORGETS) * was, "fewer": f"{again(project)} --updates {fewer}"}


def run(project, screen):
    words, updates = Words(project, "finetune"), project.settings["finetune"]["updates"]
    screen.print("  two updates, to see what moves ...")
    still, wrong, tensors = moved(project)
    finished(screen, project, "finetune", updates)
    make_room(screen, project, "finetune")
    watched = run_script(project, "finetune")
    screen.print()
    metrics = read_metrics(project.out / "finetune")
    found = expect(project) | facts(metrics) | forgot(project)
    found |= {"still": still[:3], "wrong": wrong[:3], "tensors": tensors}
    found |= {"more": more_updates(project), "few": max(1, updates // 5)}
    log, plots = [whole_log(project.out / "finetune", updates, metrics)], {}
    if metrics:
        log.append(lr_fell(metrics))
        plots["Loss on the answers, update by update"] = losses_plot(metrics, found["val"])
    left, good = f"{tensors - len(still):,}", found["now"] <= found["most"]
    checks = [
        words.check("tensors that moved", left, not still, **found),
        words.check("frozen tensors that moved", len(wrong), not wrong, **found),
        *judge_losses(words, found),
        words.check("loss on {text}", f"{found['now']:.3f}", good, "warn", **found),
        *log,
        *planned(project),
        *watched,
    ]
    return Outcome(checks, found, plots=plots)


def losses_plot(metrics, val):
    """Return the picture of the loss, next to the one on answers never seen, if that is known."""
    plot = {"kind": "line", "xlabel": "update", "ylabel": "loss on answers"}
    plot |= {"x": [line["step"] for line in metrics], "y": [line["loss"] for line in metrics]}
    return plot if val is None else plot | {"lines": {"never seen": val}}
