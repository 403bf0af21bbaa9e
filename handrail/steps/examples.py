"""Examples: see exactly what is trained."""

import shlex
from itertools import islice

import numpy as np

from handrail.data import text_files, village
from handrail.data.chats import Chats, first_question, read_chats
from handrail.data.text_files import problem, some, write_rows
from handrail.project.plan import OPEN, REPLY, choose_context, choose_method, plan_finetuning
from handrail.project.pretrained import learned_positions, opened
from handrail.project.project import Stop
from handrail.project.screen import Outcome
from handrail.steps.hold_out import hold_out
from handrail.steps.mistakes import contradictions, placeholders, plain
from handrail.steps.words import Words, shown_if

FILES = ["messages.py", "batches.py", "packing.py"]
USES = ["answers", "me", "base", "finetune"]
LEAVES = ["chats/train.jsonl", "chats/val.jsonl"]

STORIES, NEW_STORIES = 5_760, 400  # of the built-in world: to learn from, to be asked about
HUB_ROWS = 50_000  # of a hub data set, at most
SAME = 1e-5  # logits that differ by less, as a share of the largest, differ by rounding only


def expect(project):
    return {}


# --- the rows ---


def sides(project):
    """Return (train, held out, Chats): of the file that was named, or of the built-in world."""
    source = project.settings.get("answers")
    if source:
        chats = read_source(project, source)
        if chats.pairs:
            command = project.command(f"dpo --answers {shlex.quote(source)}")
            raise Stop(problem("pairs, not answers", source=source, command=command))
        rows = [row | {"where": where} for row, where in zip(chats.rows, chats.places, strict=True)]
        return *hold_out(rows), chats
    if not project.settings.get("world"):
        command = project.command("finetune --answers qa.jsonl")
        raise Stop(problem("which answers", command=command), wants="answers")
    train, held = village.chats(STORIES, 5, questions=4), village.chats(NEW_STORIES, 6, questions=1)
    return train, held, Chats(total=STORIES + NEW_STORIES)


def read_source(project, source):
    """Return the Chats of a file, a folder or a hub data set."""
    place = text_files.locate(project, source, "answers") or hub_rows(source)
    return read_chats(place, source, project.settings.get("me"))


def hub_rows(source):
    """Return the first rows of a hub data set."""
    from datasets import load_dataset

    name, config, part = (source.split(":") + ["", ""])[:3]
    try:
        rows = load_dataset(name, config or None, split=part or "train", streaming=True)
        return list(islice(rows, HUB_ROWS))
    except Exception as error:
        raise Stop(text_files.hub_fault(source, error)) from error


def encode_all(program, tokenizer, chats, left_out):
    """Return [(chat, its rows)]. A chat that the template refuses (a system turn, say) is left out.

    left_out is {reason: where}.
    """
    coded = []
    for chat in chats:
        try:
            coded.append((chat, program.messages.encode(tokenizer, chat["messages"])))
        except Exception as error:  # whatever the template raises
            left_out[f"refused by the model's chat template ({error})"].append(chat["where"])
    return coded


def longest(rows):
    return max(len(ids) for ids, _ in rows)


def fitting(coded, context, left_out):
    """Return those of [(chat, its rows)] that fit into the context. The others are left out."""
    found = [(chat, rows) for chat, rows in coded if longest(rows) <= context]
    if too_long := [chat["where"] for chat, rows in coded if longest(rows) > context]:
        left_out[f"longer than {context:,} tokens"] += too_long
    return found


def missed(left_out):
    """Return {reason: where} as lines of text."""
    return [f"left out, {why}: {len(at):,} ({some(at)})" for why, at in left_out.items()]


def check_number(train, val, total, left_out, limit):
    """Raise Stop if this model cannot use most of the `total` rows, or if there are too few."""
    about = {"train": len(train), "val": len(val), "used": len(train) + len(val), "total": total}
    if about["used"] < total / 2:
        room = problem(
            "room of a table" if limit else "room of the settings", limit=limit, reply=REPLY
        )
        lines = [problem("most left out", **about), *missed(left_out)]
        raise Stop("\n".join([*lines, problem("another model", room=room)]))
    if len(train) >= 8 and val:
        return
    one = about["used"] > 8 and not val
    raise Stop(problem("one question" if one else "too few", **about))


# --- the model ---


def check_model(project):
    """Raise Stop if there is no model to fine-tune."""
    if not project.settings.get("base") and not (project.out / "model").exists():
        raise Stop(problem("no model", command=project.command(), base=OPEN))


def load_with_template(project, program):
    """Return (tokenizer, model) with a chat template, as finetune.py will have them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = project.settings.get("base") or project.out / "model"
    tokenizer = opened(AutoTokenizer, name)
    model = opened(AutoModelForCausalLM, name, use_safetensors=True, dtype=torch.float32).eval()
    try:
        program.messages.add_template(tokenizer, model)
    except ValueError as error:
        raise Stop(problem("chat template", name=name, error=error)) from error
    return tokenizer, model


def leak(model, rows):
    """Return how far the logits of two rows move when they are laid end to end, as in packing.py.

    0: neither reads the other.
    """
    import torch

    parts = [torch.tensor(ids[:64]) for ids, _ in sorted(rows, key=lambda row: len(row[0]))[:2]]
    places = torch.cat([torch.arange(len(part)) for part in parts])
    with torch.no_grad():
        packed = model(torch.cat(parts)[None], position_ids=places[None], use_cache=False).logits
        alone = torch.cat([model(part[None], use_cache=False).logits for part in parts], 1)
    return ((packed - alone).abs().max() / alone.abs().max()).item()


# --- what is shown and judged ---


def show(screen, tokenizer, rows):
    """Show three rows, bright what is learned, dim what is only read; return them as texts."""
    shown = []
    screen.console.print(
        "[bold cyan]What is trained[/]  ([green]bright[/]: learned · [dim]dim[/]: only read)"
    )
    for ids, mask in rows[:3]:
        pieces = [(tokenizer.decode([i]), learned) for i, learned in zip(ids, mask, strict=True)]
        screen.tokens(pieces)
        shown.append("".join(f"[{piece}]" if learned else piece for piece, learned in pieces))
    return shown


def comes_back(tokenizer, chat, rows):
    """Return True if question and answer can be read in what the model gets."""
    text = plain(tokenizer.decode(rows[-1][0]))
    return all(plain(message["content"]) in text for message in chat["messages"][-2:])


def judge_tokens(words, tokenizer, coded, highest, V):
    """Return the checks of model and tokenizer: do they belong together?"""
    asked = coded[:200]
    lost = sum(not comes_back(tokenizer, *both) for both in asked)
    verdict = "warn" if lost < len(asked) / 10 else "fail"
    shown, name = {"V": V, "asked": len(asked)}, "examples that can be read again in their tokens"
    return [
        words.check("highest token number", f"{highest:,}", highest < V, **shown),
        words.check(name, len(asked) - lost, not lost, verdict, **shown),
    ]


def judge_rows(words, rows, end):
    """Return the checks of what is learned in each row (ids, loss_mask)."""
    learned = np.array([sum(mask) for _, mask in rows])
    ends = sum(ids[-1] == end and mask[-1] for ids, mask in rows)
    first = sum(bool(mask[0]) for _, mask in rows)
    empty = (learned == 0).sum()
    low, half, high = np.percentile(learned, [10, 50, 90]).astype(int)
    last, number = "rows whose end mark is trained", f"{low} · {half} · {high}"
    length = "learned tokens per row: shortest 10%, median, longest 10%"
    return [
        words.check(last, f"{ends:,}", ends == len(rows), rows=len(rows)),
        words.check("rows with nothing to train", empty, empty == 0),
        words.check("rows trained from their first token on", first, first == 0),
        words.check(length, number, half >= 1),
    ]


def judge_file(words, copies, rows):
    """Return the checks of what a file says, and says wrongly."""
    two, todo = contradictions(rows), placeholders(rows)
    shown = {"copies": some(copies), "two": some(two), "todo": some(todo)}
    number, few = f"{len(copies):,} of {len(rows):,} rows", len(copies) <= 0.01 * len(rows)
    unwritten = "answers never written (TODO and the like)"
    return [
        words.check("exact copies", number, few, "warn", **shown),
        words.check("questions with two different answers", len(two), not two, "warn", **shown),
        words.check(unwritten, len(todo), not todo, "warn", **shown),
    ]


def judge_template(words, tokenizer, end, own):
    """Return the check that the marks of the template are tokens; `own`: it is handrail's."""
    marks = [tokenizer.decode([end])] + (["<|im_start|>"] if own else [])
    numbers = [tokenizer(mark, add_special_tokens=False)["input_ids"] for mark in marks]
    single, name = all(len(ids) == 1 for ids in numbers), "marks of the template that are one token"
    return words.check(name, "yes" if single else "no", single, marks=", ".join(marks))


def usable(project, program, tokenizer, sides, limit, left_out):
    """Return (train, val, context), the sides as [(chat, its rows)] of what this model can use."""
    coded = [encode_all(program, tokenizer, side, left_out) for side in sides]
    lengths = [longest(rows) for side in coded for _, rows in side]
    context = choose_context(project, lengths, limit)
    return *(fitting(side, context, left_out) for side in coded), context


def write(project, **sides):
    """Write out/chats, one file for each side."""
    folder = project.out / "chats"
    folder.mkdir(parents=True, exist_ok=True)
    for name, coded in sides.items():
        write_rows([chat for chat, _ in coded], folder / f"{name}.jsonl")


def run(project, screen):
    check_model(project)
    *both, chats = sides(project)
    method = choose_method(project)  # stops if the model is too large to be loaded
    program, words = project.load("messages"), Words(project, "examples")
    tokenizer, model = load_with_template(project, program)
    total, limit, left_out = sum(map(len, both)), learned_positions(model), chats.left_out
    train, val, context = usable(project, program, tokenizer, both, limit, left_out)
    used = [chat for chat, _ in train + val]
    if chats.rows:
        can = f"{len(used):,} of {chats.total:,} rows can be used: {chats.form}."
        screen.say("What was found", [can, *chats.notes, *missed(left_out)])
    check_number(train, val, total, left_out, limit)
    write(project, train=train, val=val)
    rows = [row for _, coded in train for row in coded]
    highest = max(max(ids) for _, coded in train + val for ids, _ in coded)
    V = model.get_input_embeddings().num_embeddings
    moved = leak(model, rows) if highest < V else 0.0
    lengths = [len(ids) for ids, _ in rows]
    chosen = plan_finetuning(project, lengths, method, model, context, moved <= SAME)
    finetune = project.settings["finetune"]
    end = model.generation_config.eos_token_id
    checks = judge_tokens(words, tokenizer, train, highest, V) + judge_rows(words, rows, end)
    checks.append(judge_overlap(words, train, val))
    if chats.rows:
        checks += judge_file(words, chats.copies, used)
    if finetune.get("packed", True):
        name, effect = "effect of one example on another in its packed row", f"{moved:.1g}"
        checks.append(words.check(name, effect, moved < SAME, same=SAME))
    own = tokenizer.chat_template == program.messages.CHATML
    checks.append(judge_template(words, tokenizer, end, own))
    samples = show(screen, tokenizer, rows)
    lines = [f"finetune.{name} = {finetune[name]}: {why}" for name, (_, why) in chosen.items()]
    screen.say("Chosen from data and machine, in settings.toml", lines)
    return Outcome(checks, facts(train, val, rows), samples)


def judge_overlap(words, train, val):
    """Return the check that no question is on both sides."""
    asked, later = ({first_question(chat) for chat, _ in side} for side in (train, val))
    overlap = len(asked & later)
    return words.check("questions in train and in val", overlap, overlap == 0)


def facts(train, val, rows):
    """Return the values of the step's words."""
    again = sum("same_as" in chat for chat, _ in val)
    part = sum(sum(mask) for _, mask in rows) / sum(len(ids) for ids, _ in rows)
    values = {"train": len(train), "held": len(val), "never": len(val) - again, "part": part}
    values |= {"again": again or None, "answer": f"{part:.0%}"}
    return values | shown_if(none=not again)
