"""Answers: what it was trained on, the same in other words, and what it never saw."""

import json
from collections import Counter

import torch

from handrail.project import Stop
from handrail.screen import Outcome, check
from handrail.steps.finetune import by_heart, more_updates
from handrail.steps.runs import run_script

FILES = ["answers.py", "replies.py", "chat.py"]
USES = ["answers", "base", "finetune", "dpo", "grpo"]
LEAVES = ["answers.json"]

TRAINED, REWORDED, NEW = "trained on", "in other words", "never shown"
ENOUGH = 0.9


def known_world(project):
    return project.settings.get("world") and not project.settings.get("answers")


def expect(project):
    if known_world(project):
        return [
            "The loss on answers never seen is lower than before, and far lower than with another "
            "question in its place.",
            "Of questions about stories never seen, 95 % are answered exactly.",
        ]
    lines = ["Questions it was trained on: answered with your file's facts"]
    lines[0] += (
        f", at least {ENOUGH:.0%} of them." if by_heart(project) else " more often than before."
    )
    return [
        *lines,
        "The same in other words, where your file has such rows: fewer.",
        "Questions whose answer it was never shown: in your file's form, but made up. Nobody "
        "could know them.",
    ]


def last_word(texts):
    words = [text.split()[-1] for text in texts if text.split()]
    return Counter(words).most_common(1)[0] if words else ("", 0)


def closing(project):
    """Return the word that nearly all answers of the file end with, or ""."""
    chats = project.load("messages").messages.load_rows(project.out / "chats" / "train.jsonl")
    word, number = last_word([chat["messages"][-1]["content"] for chat in chats])
    return word if number >= ENOUGH * len(chats) > 1 else ""


def judge_kinds(project, before, after):
    """Return the checks of the three kinds of questions."""
    heart, found, checks = by_heart(project), {}, []
    for kind in (TRAINED, REWORDED, NEW):
        if kind in after:
            found[kind] = f"{after[kind]['facts']:.0%} of {len(after[kind]['replies'])}"
    then, now = before[TRAINED]["facts"], after[TRAINED]["facts"]
    checks.append(
        check(
            "trained on: answered with the facts",
            f"≥ {ENOUGH:.0%}" if heart else f"> {then:.0%}, before",
            found[TRAINED],
            now >= ENOUGH if heart else now > then or now == 1,
            "It does not know yet what it was trained on.",
            f"more updates: {more_updates(project)}",
            "warn",
        )
    )
    if REWORDED in found:
        checks.append(
            check(
                "the same in other words",
                "half of that, or more",
                found[REWORDED],
                after[REWORDED]["facts"] >= now / 2,
                "It knows the sentence, and not yet what is asked.",
                "ask each thing in two or three ways in your file",
                "warn",
            )
        )
    if NEW in found:
        checks.append(check("never shown (it cannot know these)", "any", found[NEW], True))
    return checks


def judge_closing(project, after):
    """Return the check that answers end as those of the file do, if those all end alike."""
    word = closing(project)
    if not word:
        return []
    texts = [
        text for kind in (TRAINED, REWORDED, NEW) for text in after.get(kind, {}).get("replies", [])
    ]
    share = sum(text.split()[-1:] == [word] for text in texts) / len(texts)
    return [
        check(
            f"answers that end with {word!r}, as in your file",
            f"≥ {ENOUGH:.0%}",
            f"{share:.0%} of {len(texts)}",
            share >= ENOUGH,
            "It has not taken on the form of your answers yet.",
            f"more updates: {more_updates(project)}",
            "warn",
        )
    ]


def run(project, screen):
    if not (project.out / "finetune" / "model").exists():
        raise Stop(f"There is no model that answers yet. First: {project.command('finetune')}")
    watched = run_script(project, "answers")
    screen.print()
    result = json.loads((project.out / "answers.json").read_text())
    before, after = result["before"], result["after"]
    world = known_world(project)
    checks = [
        check(
            "loss on answers never seen",
            f"< {before['loss']:.3f}, before",
            f"{after['loss']:.3f}",
            after["loss"] < before["loss"],
            "It is no better than before at answers that it never saw.",
            "more examples",
            "fail" if world else "warn",
        ),
        check(
            "loss with another question in its place",
            f"> {after['loss']:.3f}",
            f"{after['blind_loss']:.3f}",
            after["blind_loss"] > 1.02 * after["loss"],
            "It does not read the question: any would do.",
            "look at three rows in the step `examples`",
            "warn",
        ),
    ]
    if world:
        exact = after[NEW]["exact"]
        checks.append(
            check(
                "exactly right",
                "95 %",
                f"{exact:.1%}",
                exact >= 0.95,
                "It has not learned all of it yet.",
                f"more updates: {more_updates(project)}",
                "warn",
            )
        )
    else:
        checks += judge_kinds(project, before, after) + judge_closing(project, after)
    checks += [
        check(
            "answers that end by themselves",
            "all",
            f"{after['ended']:.0%}",
            after["ended"] >= 0.95,
            "Some run on. The end mark is learned with each answer, so it is not yet learned well.",
            f"more updates: {more_updates(project)}",
            "warn",
        ),
        check("end mark in the saved model", *ends(project)),
        *watched,
    ]
    return Outcome(checks, {"tells": tells(result, world)}, samples(after))


def tells(result, world):
    """Return the result in a sentence or two."""
    before, after = result["before"], result["after"]
    if world:
        return (
            f"{after[NEW]['exact']:.0%} of the questions are answered exactly right, "
            f"{before[NEW]['exact']:.0%} were before. Always saying the most frequent answer is "
            f"right {result['blind']:.0%} of the time."
        )
    parts = [
        f"{after[kind]['facts']:.0%} of the questions {kind} ({before[kind]['facts']:.0%} before)"
        for kind in (TRAINED, REWORDED, NEW)
        if kind in after
    ]
    return (
        f"Answered with your file's facts: {', '.join(parts)}. It knows what it was shown. Asked "
        "for anything else, it makes something up in the same form: do not trust its facts there."
    )


def samples(after):
    return [
        text
        for kind in (TRAINED, REWORDED, NEW)
        for text in after.get(kind, {}).get("replies", [])[:2]
    ]


def ends(project):
    """Return (expected, measured, good): the token that ends an answer in the template, and the
    one at which generation stops."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    program = project.load("messages", "answers")
    folder = program.answers.newest(project.out)
    stops = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32
    ).generation_config.eos_token_id
    end = program.messages.end_of_turn(AutoTokenizer.from_pretrained(folder))[1]
    return end, stops, stops == end
