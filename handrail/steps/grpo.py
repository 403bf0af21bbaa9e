"""GRPO: learning from a verdict on its own answers."""

from handrail.screen import Outcome, check
from handrail.steps.dpo import said_by, train
from handrail.steps.finetune import values_of
from handrail.steps.runs import read_metrics

TITLE = "The right answer"
FILES = ["grpo.py", "answers.py", "chat.py"]
USES = ["answers", "grpo"]
LEAVES = []
SECONDS = (60, 240)
WHY = """An example says what to write. It does not say what is *better*. If an answer can be checked by a program, let the model try,
and tell it how well it did (GRPO). It uses the loop that you have, with another loss.

The trap: you get what you asked for, not what you meant. A reward for a right last number ends in guessing. So the answers are
read, before and after."""
MORE = """GRPO needs groups in which some answers are right and some wrong. A model that is always wrong learns nothing from verdicts; it
has to be fine-tuned first, until it is right now and then."""

TRIED = {"lr": 1e-3, "batch": 32, "updates": 120}


def expect(project):
    return [
        "The share of right answers rises, from questions and verdicts alone.",
        "In the beginning most groups have a spread: some answers right, some wrong.",
    ]


def run(project, screen):
    watched = train(project, screen, "grpo", TRIED)
    outcome = judge(project)
    outcome.checks += watched
    return outcome


def judge(project):
    metrics = [
        line["val_loss"] for line in read_metrics(project.out / "grpo") if "val_loss" in line
    ]
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
            f"{project.command('finetune')} with more updates first, or a reward that is not all or nothing",
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
