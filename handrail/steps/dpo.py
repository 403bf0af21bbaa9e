"""DPO: of two answers, the better one."""

from itertools import islice

from handrail import village
from handrail.chats import read_chats, split, write_chats
from handrail.plan import plan_pairs
from handrail.project import Stop
from handrail.screen import Outcome, check
from handrail.steps.examples import hub_rows
from handrail.steps.finetune import values_of
from handrail.steps.runs import make_room, read_metrics, run_script

FILES = ["dpo.py", "replies.py", "answers.py", "chat.py"]
USES = ["answers", "pairs", "dpo"]
LEAVES = []

PAIRS = 2000  # of the village
SHOWN, SIDES = 3, ("chosen", "rejected")  # questions on the screen; the answers of a pair
TRIED = {"batch": 32, "updates": 90}


def expect(project):
    lines = ["The loss starts at 0.693 (it cannot tell the two apart) and falls."]
    if own(project):
        return [*lines, "Its own answers come nearer to those that you chose: read them."]
    return [
        *lines,
        "On the built-in stories: short and right in 90 % of the answers that changed, and no "
        "fewer right answers.",
    ]


def write_pairs(project):
    """Write out/pairs from the file that was named, or, of the village, short over whole."""
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
    for name, rows in zip(("train", "val"), sides, strict=True):
        write_chats(rows, folder / f"{name}.jsonl")


def check_taught(project):
    """Raise Stop if there is no model that answers yet."""
    if not (project.out / "finetune" / "model").exists():
        raise Stop(f"There is no model that answers yet. First: {project.command('finetune')}")


def opened_answerer(project):
    """Return (model, tokenizer) of the model that was taught to answer."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = project.out / "finetune" / "model"
    return AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)


def train(project, screen, name, chosen):
    """Say the plan, with its time; run the script; return the doctor's checks."""
    lines = [
        f"{name}.{key} = {project.settings[name][key]}: {why}" for key, (_, why) in chosen.items()
    ]
    screen.say("Chosen from data, model and machine, in settings.toml", lines)
    make_room(screen, project, name)
    watched = run_script(project, name)
    screen.print()
    return watched


def own(project):
    """Return True if the pairs are a person's own and not the village's."""
    return bool(project.settings.get("pairs")) or not project.settings.get("world")


def plan(project):
    """Write the settings of this run; return what was chosen: {name: (value, why)}."""
    program = project.load("dpo", "messages")
    model, tokenizer = opened_answerer(project)
    pairs = program.messages.load_rows(project.out / "pairs" / "train.jsonl")
    encoded = [program.dpo.encode_pair(tokenizer, pair) for pair in pairs]
    lengths = [sum(len(ids) for ids, _ in rows) for rows in encoded]
    return plan_pairs(project, lengths, model, None if own(project) else TRIED)


def run(project, screen):
    check_taught(project)
    write_pairs(project)
    watched = train(project, screen, "dpo", plan(project))
    outcome = judge(project, screen)
    outcome.checks += watched
    return outcome


def show_answers(screen, questions, before, after, right=None):
    """Print the answers to some questions before and after; return them as texts."""
    shown = []
    for i, question in enumerate(questions[:SHOWN]):
        lines = [question, f"before: {before[i]}", f"after:  {after[i]}"]
        lines += [f"right:  {right[i]}"] if right else []
        screen.say("Asked" if i == 0 else "And", lines)
        shown.append("\n".join(lines))
    return shown


def said_by(project, kind, folder, chats, answers):
    """Return what the model in a folder replies to each of the chats (questions), as texts.

    `answers` are chats with answers: they say how long a reply may be.
    """
    program, values = values_of(project, kind)
    module, accelerator = project.load("replies").replies, program.settings.start(values)
    values.model, values.method = folder, "full"
    model, tokenizer = program.finetune.load(values)
    length = module.reply_length(tokenizer, answers)
    asked = [chat["messages"] for chat in chats]
    found = module.replies(model.to(accelerator.device), tokenizer, asked, length)
    return tokenizer.batch_decode(found, skip_special_tokens=True)


def likeness(text, other):
    """Return the share of words that two texts have in common."""
    words, others = set(text.lower().split()), set(other.lower().split())
    return len(words & others) / max(1, len(words | others))


def judge(project, screen):
    program, _ = values_of(project, "dpo")
    pairs = program.messages.load_rows(project.out / "pairs" / "val.jsonl")[:200]
    answers = [{"messages": [{"content": pair[side]}]} for pair in pairs for side in SIDES]
    before, after = (
        said_by(project, "dpo", project.out / name / "model", pairs, answers)
        for name in ("finetune", "dpo")
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
    nearer = [
        sum(
            likeness(text, pair["chosen"]) > likeness(text, pair["rejected"])
            for text, pair in zip(texts, pairs, strict=True)
        )
        / len(pairs)
        for texts in (before, after)
    ]
    length = [sum(map(len, texts)) / len(texts) for texts in (before, after)]
    tells = f"An answer had {length[0]:.0f} letters on average and has {length[1]:.0f} now."
    if own(project):
        tells += (
            f" Of {len(pairs)} pairs that it never saw, its answer is more like the chosen one in "
            f"{nearer[1]:.0%} ({nearer[0]:.0%} before)."
        )
    if not own(project):
        right = [
            [
                text.strip().lower() in {p["chosen"].lower(), p["rejected"].lower()}
                for text, p in zip(texts, pairs, strict=True)
            ]
            for texts in (before, after)
        ]
        wins = [
            r and len(text) < len(old)
            for r, text, old in zip(right[1], after, before, strict=True)
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
    questions = [pair["messages"][-1]["content"] for pair in pairs]
    return Outcome(checks, {"tells": tells}, show_answers(screen, questions, before, after))
