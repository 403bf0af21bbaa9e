"""DPO: of two answers, the better one."""

from itertools import islice

from handrail import village
from handrail.chats import read_chats, split, write_chats
from handrail.project import Stop
from handrail.screen import Outcome, check
from handrail.steps.examples import hub_rows
from handrail.steps.finetune import values_of
from handrail.steps.runs import make_room, read_metrics, run_script

TITLE = "The better answer"
FILES = ["dpo.py", "answers.py", "chat.py"]
USES = ["answers", "pairs", "dpo"]
LEAVES = []
SECONDS = (60, 240)
WHY = """An example says what to write. It does not say what is *better*. If you can compare two answers, give pairs: this answer
rather than that one (DPO). It uses the loop that you have, with another loss.

The trap: you get what you asked for, not what you meant. A preference for short answers ends in one word. So the answers are
read, before and after."""
MORE = """DPO compares with the model as it was: what counts is by how much more it now likes the chosen answer than the rejected one.
Where an answer can be checked by a program, verdicts can replace the pairs: that is the step grpo."""

PAIRS = 2000  # of the village
TRIED = {"lr": 3e-4, "batch": 32, "updates": 90}


def expect(project):
    return [
        "The loss starts at 0.693 (it cannot tell the two apart) and falls.",
        "On the village: short and right in 90 % of the answers that changed, and no fewer right answers.",
    ]


def write_pairs(project):
    """Write out/pairs: from the file that was named, or for the village short answers over whole sentences."""
    folder, source = project.out / "pairs", project.settings.get("pairs")
    if source:
        path = project.folder / source
        chats = read_chats(path if path.exists() else hub_rows(project, source), source)
        if not chats.pairs:
            raise Stop(
                f"{source} holds no pairs. Each row needs a better and a worse answer: "
                '{"prompt": "Hello", "chosen": "Hi!", "rejected": "What?"}'
            )
        sides = split(chats.rows)
    elif project.settings.get("world") and not project.settings.get("answers"):
        rows = []
        for story in islice(village.stories(2), PAIRS):
            asked = {"role": "user", "content": f"{story['text']}\n{story['question']}"}
            rows.append({"messages": [asked], "chosen": story["short"], "rejected": story["whole"]})
        sides = split(rows)
    else:
        raise Stop(
            f"Which pairs? {project.command('dpo')} --answers pairs.jsonl\nOne a line: "
            + '{"prompt": "Hello", "chosen": "Hi!", "rejected": "What?"}',
            wants="pairs",
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("train", "val"), sides):
        write_chats(rows, folder / f"{name}.jsonl")


def train(project, screen, name, tried):
    """Write the settings of this run, each with its reason (what a person set stays); run the script; return the doctor's checks."""
    if not (project.out / "finetune" / "model").exists():
        raise Stop(f"There is no model that answers yet. First: {project.command('finetune')}")
    fixed, base = project.settings.get(name, {}), project.settings.get("base")
    finetune = project.settings["finetune"]
    chosen = tried | {
        "model": "out/finetune/model",
        "method": finetune["method"],
        "context": finetune["context"] if base else max(512, finetune["context"]),
    }
    if base:  # of a model that others trained, all weights at 1e-5; ten times that with LoRA
        chosen["lr"] = 1e-4 if finetune["method"] == "lora" else 1e-5
    if not finetune.get("packed", True):
        chosen["packed"] = False
    reasons = {
        "model": "the model that can answer",
        "lr": "far smaller than before: it knows nearly everything already",
    }
    for key, value in chosen.items():
        why = reasons.get(key, "as tried out" if key in tried else "as in the fine-tuning")
        if key not in fixed:
            project.decide(f"{name}.{key}", value, why)
    make_room(screen, project, name)
    watched = run_script(project, name)
    screen.print()
    return watched


def run(project, screen):
    write_pairs(project)
    watched = train(project, screen, "dpo", TRIED)
    outcome = judge(project)
    outcome.checks += watched
    return outcome


def said_by(project, kind, folder, chats):
    """Return what the model in a folder replies to each of the chats, as texts."""
    program, values = values_of(project, kind)
    module, accelerator = project.load("answers").answers, program.settings.start(values)
    values.model, values.method = folder, "full"
    model, tokenizer = program.finetune.load(values)
    found = module.replies(
        model.to(accelerator.device), tokenizer, [chat["messages"] for chat in chats]
    )
    return tokenizer.batch_decode(found, skip_special_tokens=True)


def judge(project):
    program, _ = values_of(project, "dpo")
    pairs = program.messages.load_rows(project.out / "pairs" / "val.jsonl")[:200]
    before, after = (
        said_by(project, "dpo", project.out / name / "model", pairs) for name in ("finetune", "dpo")
    )
    vals = [line["val_loss"] for line in read_metrics(project.out / "dpo") if "val_loss" in line]
    checks = [
        check(
            "loss on pairs never seen",
            "< 0.693",
            f"{vals[-1]:.3f}",
            vals[-1] < 0.693,
            "It cannot tell better from worse.",
            "more pairs, or a higher rate",
        )
    ]
    length = [sum(map(len, texts)) / len(texts) for texts in (before, after)]
    tells = f"An answer had {length[0]:.0f} letters on average and has {length[1]:.0f} now."
    if project.settings.get("world") and not project.settings.get("pairs"):
        right = [
            [
                text.strip().lower() in {p["chosen"].lower(), p["rejected"].lower()}
                for text, p in zip(texts, pairs)
            ]
            for texts in (before, after)
        ]
        wins = [
            r and len(text) < len(old)
            for r, text, old in zip(right[1], after, before)
            if text != old
        ]
        share, (then, now) = sum(wins) / max(1, len(wins)), (sum(r) / len(pairs) for r in right)
        checks += [
            check(
                "wins against the model before, where they differ",
                "≥ 90 %",
                f"{share:.1%} of {len(wins)}",
                share >= 0.9,
                "It does not answer shorter and right.",
                "more updates",
                "warn",
            ),
            check(
                "answers right",
                f"≥ {then - 0.01:.1%} (1 point below before)",
                f"{now:.1%}",
                now >= then - 0.01,
                "The short answers are worse answers.",
                "fewer updates",
                "warn",
            ),
        ]
    shown = [
        f"{pair['messages'][-1]['content']}\nbefore: {a}\nafter: {b}"
        for pair, a, b in zip(pairs[:5], before, after)
    ]
    return Outcome(checks, tells, shown)
