"""Align: from answering to answering well."""

from itertools import islice

from handrail import village
from handrail.chats import read_chats, split, write_chats
from handrail.lineage import lines
from handrail.project import Stop
from handrail.screen import Outcome, check
from handrail.steps.examples import hub_rows
from handrail.steps.finetune import values_of
from handrail.steps.runs import finish, make_room

TITLE = "Answer well"
USES = ["objective", "answers", "pairs", "dpo", "grpo"]
LEAVES = []
SECONDS = (60, 240)
WHY = """An example says what to write. It does not say what is *better*. There are two ways to say that. If you can only compare, give
pairs: this answer rather than that one (DPO). If an answer can be checked by a program, let the model try, and tell it how well
it did (GRPO). Both use the loop that you have, with another loss.

The trap: you get what you asked for, not what you meant. A preference for short answers ends in one word; a reward for a right last
number ends in guessing. So the answers are read, before and after."""
MORE = """DPO compares with the model as it was: what counts is by how much more it now likes the chosen answer than the rejected one.
GRPO needs groups in which some answers are right and some wrong. A model that is always wrong learns nothing from verdicts; it
has to be fine-tuned first, until it is right now and then."""

PAIRS = 2000  # of the village
DPO = {"lr": 3e-4, "batch": 32, "updates": 90}
GRPO = {"lr": 1e-3, "batch": 32, "updates": 120}
RATES = {
    "dpo": 1e-5,
    "grpo": 1e-5,
}  # for a model that others trained, all weights; ten times that with LoRA


def objective(project):
    """Return dpo or grpo: what was asked for, else what fits the data there is."""
    asked = project.settings.get("objective")
    if asked not in (None, "dpo", "grpo"):
        raise Stop(
            f"There is no objective {asked!r}. There are: dpo (pairs: a better and a worse answer), grpo (a reward for each answer)."
        )
    return asked or "dpo"


def FILES(project):
    return [f"{objective(project)}.py", "answers.py", "chat.py"]


def expect(project):
    if objective(project) == "dpo":
        return [
            "The loss starts at 0.693 (it cannot tell the two apart) and falls.",
            "On the village: short and right in 90 % of the answers that changed, and no fewer right answers.",
        ]
    return [
        "The share of right answers rises, from questions and verdicts alone.",
        "In the beginning most groups have a spread: some answers right, some wrong.",
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
            f"Which pairs? handrail align {project.typed} --objective dpo --answers pairs.jsonl\nOne a line: "
            + '{"prompt": "Hello", "chosen": "Hi!", "rejected": "What?"}'
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, rows in zip(("train", "val"), sides):
        write_chats(rows, folder / f"{name}.jsonl")


def plan(project, kind):
    """Write the settings of this run, each with its reason; what a person set stays."""
    fixed, base = project.settings.get(kind, {}), project.settings.get("base")
    tried, finetune = {"dpo": DPO, "grpo": GRPO}[kind], project.settings["finetune"]
    rate = tried["lr"] if not base else RATES[kind] * (10 if finetune["method"] == "lora" else 1)
    context = finetune["context"] if base else max(512, finetune["context"])
    chosen = tried | {
        "lr": rate,
        "model": "out/finetune/model",
        "method": finetune["method"],
        "context": context,
    }
    if not finetune.get("packed", True):
        chosen["packed"] = False
    for name, value in chosen.items():
        if name not in fixed:
            project.decide(
                f"{kind}.{name}",
                value,
                {
                    "model": "the model that can answer",
                    "lr": "far smaller than before: it knows nearly everything already",
                }.get(name, "as tried out" if name in tried else "as in the fine-tuning"),
            )


def run(project, screen):
    kind = objective(project)
    if not (project.out / "finetune" / "model").exists():
        raise Stop("There is no model that answers yet. First: handrail finetune")
    if kind == "dpo":
        write_pairs(project)
    plan(project, kind)
    make_room(screen, project, kind, project.settings[kind], project.settings[kind]["updates"])
    watched = finish(project, f"{kind}.py")
    screen.print()
    outcome = (judge_dpo if kind == "dpo" else judge_grpo)(project)
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


def judge_dpo(project):
    program, _ = values_of(project, "dpo")
    pairs = program.messages.load_rows(project.out / "pairs" / "val.jsonl")[:200]
    before, after = (
        said_by(project, "dpo", project.out / name / "model", pairs) for name in ("finetune", "dpo")
    )
    vals = [line["val_loss"] for line in lines(project.out / "dpo") if "val_loss" in line]
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


def judge_grpo(project):
    metrics = [line["val_loss"] for line in lines(project.out / "grpo") if "val_loss" in line]
    program, _ = values_of(project, "grpo")
    chats = program.messages.load_rows(project.out / "chats" / "val.jsonl")[:200]
    asked = [{"messages": chat["messages"][:-1]} for chat in chats]
    before, after = (
        said_by(project, "grpo", project.out / name / "model", asked)
        for name in ("finetune", "grpo")
    )
    right = project.load("answers").answers.right
    then, now = (sum(map(right, texts, chats)) / len(chats) for texts in (before, after))
    checks = [
        check(
            "questions never seen, answered right",
            f"> {then:.1%}, before",
            f"{now:.1%}",
            now > then or now == 1,
            "The verdicts taught it nothing: was there a spread in the groups?",
            "handrail finetune with more updates first, or a reward that is not all or nothing",
            "warn",
        )
    ]
    shown = [
        f"{chat['messages'][-2]['content']}\nbefore: {a}\nafter: {b}"
        for chat, a, b in zip(chats[:5], before, after)
    ]
    return Outcome(
        checks,
        f"From verdicts alone it went from {then:.1%} right to {now:.1%}; the best look had {1 - min(metrics):.1%}.",
        shown,
    )
