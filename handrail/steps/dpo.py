"""DPO: of two answers, the better one."""

from statistics import mean

from handrail.data import village
from handrail.data.chats import split
from handrail.data.text_files import write_rows
from handrail.project.plan import plan_pairs
from handrail.project.project import Stop
from handrail.project.screen import Outcome
from handrail.steps.answers import check_taught, known_world
from handrail.steps.examples import read_source
from handrail.steps.finetune import values_of
from handrail.steps.runs import make_room, read_metrics, run_script, whole_log
from handrail.steps.words import Words, shown_if

FILES = ["dpo.py", "replies.py", "answers.py", "chat.py"]
USES = ["answers", "pairs", "dpo"]
LEAVES = []
LEARNS = "pairs/train.jsonl"

PAIRS = 2000  # of the built-in world
SHOWN, SIDES = 3, ("chosen", "rejected")  # questions on the screen; the answers of a pair
TRIED = {"batch": 32, "updates": 90}
LR = 3e-4  # of a small model of one's own: tried, not calculated
SHARE = 0.9  # of the answers that change: shorter and right
EXAMPLE = '{"prompt": "Hello", "chosen": "Hi!", "rejected": "What?"}'


def expect(project):
    mine = own(project)
    return {"share": SHARE} | shown_if(own=mine, built_in=not mine)


def write_pairs(project):
    """Write out/pairs from the file that was named, or of the built-in stories; return them."""
    folder, source = project.out / "pairs", project.settings.get("pairs")
    if source:
        chats = read_source(project, source)
        if not chats.pairs:
            raise Stop(
                f"{source} holds no pairs. Each row needs a better and a worse answer: {EXAMPLE}"
            )
        rows = chats.rows
    elif own(project):
        raise Stop(
            f"Which pairs? {project.command('dpo --answers pairs.jsonl')}\nOne per line: {EXAMPLE}",
            wants="pairs",
        )
    else:
        rows = village.pairs(PAIRS, 2)
    folder.mkdir(parents=True, exist_ok=True)
    for name, part in zip(("train", "val"), split(rows), strict=True):
        write_rows(part, folder / f"{name}.jsonl")
    return rows


def judge_length(project, pairs):
    """Return the check that the better answers are not simply the longer or the shorter ones."""
    letters = [[len(pair[side]) for side in SIDES] for pair in pairs]
    chosen, rejected = (mean(column) for column in zip(*letters, strict=True))
    longer = mean(better > 1.1 * worse for better, worse in letters)
    shorter = mean(worse > 1.1 * better for better, worse in letters)
    # chance alone stays below 0.5 + that, 19 times in 20
    most = min(0.95, 0.65 + len(pairs) ** -0.5)
    good = max(longer, shorter) <= most if own(project) else longer == 0
    shown = {"longer": longer, "shorter": shorter, "chosen": chosen, "rejected": rejected}
    shown |= expect(project) | {"most": most}
    shown |= shown_if(long=longer > most, short=shorter > most)
    number = f"{longer:.0%} longer, {shorter:.0%} shorter; {chosen:.0f} letters for {rejected:.0f}"
    return Words(project, "dpo").check("length of the chosen", number, good, "warn", **shown)


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
    """Return True if the pairs are a person's own and not about the built-in world."""
    return bool(project.settings.get("pairs")) or not known_world(project)


def plan(project):
    """Write the settings of this run; return what was chosen: {name: (value, why)}."""
    program = project.load("dpo", "messages")
    model, tokenizer = opened_answerer(project)
    pairs = program.messages.load_rows(project.out / "pairs" / "train.jsonl")
    encoded = [program.dpo.encode_pair(tokenizer, pair) for pair in pairs]
    # and once forward, for the reference
    lengths = [1.3 * sum(len(ids) for ids, _ in rows) for rows in encoded]
    return plan_pairs(project, "dpo", lengths, model, LR, None if own(project) else TRIED)


def run(project, screen):
    check_taught(project)
    length = judge_length(project, write_pairs(project))
    said = [f"The chosen answers: {length.measured} (expected: {length.expected})."]
    if length.verdict != "pass":
        said += [length.meaning, f"Try next: {length.advice}"]
    screen.say("Before it trains", said)
    question = "Enter to train all the same, q to stop:"
    if length.verdict != "pass" and screen.ask(question).lower() == "q":
        raise KeyboardInterrupt
    watched = train(project, screen, "dpo", plan(project))
    outcome = judge(project, screen)
    outcome.checks += [length, *watched]
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
    letters = [sum(map(len, texts)) / len(texts) for texts in (before, after)]
    found = expect(project) | {"letters_before": letters[0], "letters": letters[1]}
    found |= dict.fromkeys(("nearer", "nearer_before", "wins"))
    updates, words = project.settings["dpo"]["updates"], Words(project, "dpo")
    found |= {"few": max(1, updates // 5), "pairs": len(pairs)}
    metrics = read_metrics(project.out / "dpo")
    checks = [whole_log(project.out / "dpo", updates, metrics)]
    if vals := [line["val_loss"] for line in metrics if "val_loss" in line]:
        name = "loss on pairs never seen"
        checks.append(words.check(name, f"{vals[-1]:.3f}", vals[-1] < 0.693))
    if own(project):
        then, now = (nearer(texts, pairs) for texts in (before, after))
        found |= {"nearer_before": then, "nearer": now, "answer": f"{now:.0%}"}
    else:
        checks += judge_village(words, pairs, before, after, found)
    questions = [pair["messages"][-1]["content"] for pair in pairs]
    return Outcome(checks, found, show_answers(screen, questions, before, after))


def nearer(texts, pairs):
    """Return the share of texts that are more like the chosen answer than like the rejected one."""
    closer = [
        likeness(text, pair["chosen"]) > likeness(text, pair["rejected"])
        for text, pair in zip(texts, pairs, strict=True)
    ]
    return sum(closer) / len(pairs)


def judge_village(words, pairs, before, after, found):
    """Return the checks of answers about the built-in stories; add what they say to `found`."""

    def right(text, pair):
        return text.strip().lower() in {pair[side].lower() for side in SIDES}

    then, now = (sum(map(right, texts, pairs)) / len(pairs) for texts in (before, after))
    changed = [both for both in zip(after, before, pairs, strict=True) if both[0] != both[1]]
    wins = sum(right(text, pair) and len(text) < len(old) for text, old, pair in changed)
    share, least = wins / max(1, len(changed)), max(0, then - 0.01)
    found |= {"wins": share, "answer": f"{share:.0%}", "least": least}
    name, number = "answers that changed: shorter and right", f"{share:.1%} of {len(changed)}"
    return [
        words.check(name, number, share >= SHARE, "warn", **found),
        words.check("answers right", f"{now:.1%}", now >= least, "warn", **found),
    ]
