"""GRPO: learning from a verdict on its own answers."""

from handrail.project.plan import plan_verdicts
from handrail.project.project import Stop
from handrail.project.screen import Outcome
from handrail.steps.answers import check_taught, known_world
from handrail.steps.dpo import opened_answerer, said_by, show_answers, train
from handrail.steps.finetune import more_updates, values_of
from handrail.steps.runs import read_metrics, whole_log
from handrail.steps.words import Words

FILES = ["grpo.py", "replies.py", "answers.py", "chat.py"]
USES = ["answers", "grpo"]
LEAVES = []
LEARNS = "chats/train.jsonl"

KINDS = {"train": "questions it practised on", "val": "questions never seen"}
TRIED = {"batch": 32, "updates": 120}
LR = 1e-3  # of a small model of one's own: tried, not calculated


def expect(project):
    return {}


def asked(chats):
    return [{"messages": chat["messages"][:-1]} for chat in chats]


def try_out(project, model, tokenizer, chats):
    """Let the model answer some questions as GRPO will.

    Return (rewards (Q, GROUP), tokens of a question, tokens of a reply, GROUP).
    """
    program, values = values_of(project, "finetune")
    accelerator = program.settings.start(values)
    loaded = project.load("grpo", "replies")
    grpo, replies = loaded.grpo, loaded.replies
    prompts = [chat["messages"][:-1] for chat in chats for _ in range(grpo.GROUP)]
    length = replies.reply_length(tokenizer, chats)
    model.to(accelerator.device)
    ids = replies.replies(model, tokenizer, prompts, length, do_sample=True, top_k=0)
    rewards = grpo.judge(tokenizer.batch_decode(ids, skip_special_tokens=True), chats)
    rows = [grpo.written(tokenizer, *both, 0)[0] for both in zip(prompts, ids, strict=True)]
    reply = sum(map(len, ids)) / len(ids)
    return rewards, sum(map(len, rows)) / len(rows) - reply, reply, grpo.GROUP


def check_spread(project, rewards):
    """Raise Stop if no group of answers has a spread: then there is nothing to learn from."""
    if (rewards.std(1) > 0).any():
        return
    number, best = rewards.numel(), rewards.max().item()
    told = f"It answered {len(rewards)} of your questions {rewards.size(1)} times each, and "
    if best > 0:
        raise Stop(
            f"{told}all {number} answers earned the same reward, {best:g}. There is nothing left "
            "to learn from this reward. Make `reward` in grpo.py ask for something that it does "
            "only now and then (shorter answers, say), and try again."
        )
    raise Stop(
        f"{told}not one of the {number} answers was right. GRPO strengthens what a model does now "
        "and then; it cannot teach what the model never does. First let it learn these answers: "
        f"{more_updates(project)}\nOr give part of the reward for part of the answer: `reward` in "
        "grpo.py."
    )


def run(project, screen):
    check_taught(project)
    model, tokenizer = opened_answerer(project)
    rows = project.load("messages").messages.load_rows
    chats = rows(project.out / "chats" / "train.jsonl")
    screen.print("  some answers, to see whether verdicts on them can teach anything ...")
    some = chats[:: 1 + len(chats) // 16]
    rewards, prompt, reply, group = try_out(project, model, tokenizer, some)
    check_spread(project, rewards)
    spread = (rewards.std(1) > 0).float().mean()
    screen.print(f"  groups with a spread: {spread:.0%} of {len(rewards)}\n")
    tried = TRIED if known_world(project) else None
    chosen = plan_verdicts(project, prompt, reply, group, model, LR, tried)
    watched = train(project, screen, "grpo", chosen)
    outcome = judge(project, screen)
    outcome.checks += watched
    return outcome


def judge(project, screen):
    program, _ = values_of(project, "grpo")
    right = project.load("replies").replies.right
    updates, words = project.settings["grpo"]["updates"], Words(project, "grpo")
    metrics, more = read_metrics(project.out / "grpo"), more_updates(project)
    checks, shown, shares = [whole_log(project.out / "grpo", updates, metrics)], [], []
    for side, kind in KINDS.items():
        chats = program.messages.load_rows(project.out / "chats" / f"{side}.jsonl")[:200]
        before, after = (
            said_by(project, "grpo", project.out / name / "model", asked(chats), chats)
            for name in ("finetune", "grpo")
        )
        then, now = (sum(map(right, texts, chats)) / len(chats) for texts in (before, after))
        shares += [then, now]
        name, good = "{kind}, answered right", now > then or now == 1
        values = {"kind": kind, "then": then, "more": more}
        checks.append(words.check(name, f"{now:.1%}", good, "warn", **values))
        questions = [chat["messages"][-2]["content"] for chat in chats]
        answers = [chat["messages"][-1]["content"] for chat in chats]
        shown += show_answers(screen, questions, before, after, answers)
    wrong = [line["val_loss"] for line in metrics if "val_loss" in line]
    names = "train_before", "train", "val_before", "val"
    found = dict(zip(names, shares, strict=True)) | {"answer": f"{shares[-1]:.0%}"}
    return Outcome(checks, found | {"best": 1 - min(wrong) if wrong else None}, shown)
