"""Answers: what it was trained on, the same in other words, and what it never saw."""

import json
from collections import Counter

from handrail.project.project import Stop
from handrail.project.screen import Outcome
from handrail.steps import OBJECTIVES
from handrail.steps.finetune import by_heart, more_updates
from handrail.steps.runs import run_script
from handrail.steps.words import Words, shown_if

FILES = ["answers.py", "replies.py", "chat.py"]
USES = ["answers", "base", "finetune", *OBJECTIVES]
LEAVES = ["answers.json"]

KINDS = {"trained": "trained on", "reworded": "in other words", "never": "never shown"}
BEFORE = {"trained": "trained_before", "reworded": "reworded_before", "never": "never_before"}
ENOUGH = 0.9  # of the answers have the facts of the file, or end as all of its answers do
EXACT = 0.95  # of the answers about the built-in world are exactly right


def known_world(project):
    return project.settings.get("world") and not project.settings.get("answers")


def expect(project):
    world, heart = known_world(project), by_heart(project)
    shown = shown_if(world=world, file=not world)
    shown |= shown_if(heart=heart and not world, once=not heart and not world)
    return shown | {"enough": ENOUGH, "exact": EXACT}


def check_taught(project):
    """Raise Stop if there is no model that answers yet."""
    if not (project.out / "finetune" / "model").exists():
        raise Stop(f"There is no model that answers yet. First: {project.command('finetune')}")


def run(project, screen):
    check_taught(project)
    watched = run_script(project, "answers")
    screen.print()
    result = json.loads((project.out / "answers.json").read_text())
    after, world = result["after"], known_world(project)
    replies = {name: after.get(kind, {}).get("replies", []) for name, kind in KINDS.items()}
    found = expect(project) | facts(project, result)
    words = Words(project, "answers")
    checks = judge_losses(words, found)
    if world:
        new = found["new"]
        checks.append(words.check("exactly right", f"{new:.1%}", new >= EXACT, "warn", **found))
    else:
        checks += judge_kinds(words, replies, found) + judge_closing(words, replies, found)
    checks += [*judge_ends(project, words, found), *watched]
    samples = [text for texts in replies.values() for text in texts[:2]]
    return Outcome(checks, found, samples)


def facts(project, result):
    """Return the values of the step's words, none for a kind of question that was not asked."""
    before, after = result["before"], result["after"]
    found = {"was": before["loss"], "loss": after["loss"], "other": after["blind_loss"]}
    found |= {"blind": result["blind"], "ended": after["ended"], "more": more_updates(project)}
    found["few"] = max(1, project.settings["finetune"]["updates"] // 5)
    if known_world(project):
        new = KINDS["never"]
        found |= {"new": after[new]["exact"], "new_before": before[new]["exact"]}
        return found | {"answer": f"{found['new']:.0%}"}
    for name, earlier in BEFORE.items():
        if (kind := KINDS[name]) in after:
            found |= {name: after[kind]["facts"], earlier: before[kind]["facts"]}
    return found | {"answer": f"{found['trained']:.0%}", "closing": closing(project)}


def closing(project):
    """Return the word that nearly all answers of the file end with, or None."""
    chats = project.load("messages").messages.load_rows(project.out / "chats" / "train.jsonl")
    last = [chat["messages"][-1]["content"].split()[-1:] for chat in chats]
    [(word, number)] = Counter(map(tuple, last)).most_common(1)
    return word[0] if word and number >= ENOUGH * len(chats) > 1 else None


def judge_losses(words, found):
    """Return the checks of the losses: did it learn, and does it read the question?"""
    loss, other = found["loss"], found["other"]
    better, verdict = loss < found["was"], "warn" if found["world"] is None else "fail"
    name, reads = "loss with another question in its place", other > 1.02 * loss
    return [
        words.check("loss on answers never seen", f"{loss:.3f}", better, verdict, **found),
        words.check(name, f"{other:.3f}", reads, "warn", **found),
    ]


def judge_kinds(words, replies, found):
    """Return the checks of the three kinds of questions."""
    now, then, reworded = found["trained"], found["trained_before"], found.get("reworded")
    number = {name: f"{found[name]:.0%} of {len(replies[name])}" for name in KINDS if name in found}
    known = now >= ENOUGH if found["heart"] is not None else now > then or now == 1
    name = "trained on: answered with the facts"
    checks = [words.check(name, number["trained"], known, "warn", **found)]
    if reworded is not None:
        name, good = "the same in other words", reworded >= now / 2
        checks.append(words.check(name, number["reworded"], good, "warn", **found))
    if "never" in found:
        checks.append(words.check("never shown (it cannot know these)", number["never"], True))
    return checks


def judge_closing(words, replies, found):
    """Return the check that answers end as those of the file do, if those all end alike."""
    word = found.get("closing")
    if word is None:
        return []
    ends = [text.split()[-1:] == [word] for texts in replies.values() for text in texts]
    share = sum(ends) / len(ends)
    number = f"{share:.0%} of {len(ends)}"
    name = "answers that end with {closing!r}, as in your file"
    return [words.check(name, number, share >= ENOUGH, "warn", **found)]


def judge_ends(project, words, found):
    """Return the checks that answers end, and that the saved model knows where."""
    from transformers import AutoTokenizer, GenerationConfig

    program, ended = project.load("messages", "answers"), found["ended"]
    folder = program.answers.newest(project.out)
    stop = GenerationConfig.from_pretrained(folder).eos_token_id
    end = program.messages.end_of_turn(AutoTokenizer.from_pretrained(folder))[1]
    name = "answers that end by themselves"
    return [
        words.check(name, f"{ended:.0%}", ended >= 0.95, "warn", **found),
        words.check("end mark in the saved model", stop, stop == end, end=end),
    ]
