"""Examples: see exactly what is trained."""

import math
import random
import re
import shlex
import unicodedata
import zlib
from collections import defaultdict
from itertools import islice

import numpy as np
import torch

from handrail import village
from handrail.chats import read_chats, split, write_chats
from handrail.plan import OPEN, base_parameters, machine, opened, persons, plan_finetuning
from handrail.program.replies import facts
from handrail.project import Stop
from handrail.screen import Outcome, check

FILES = ["messages.py", "batches.py", "packing.py"]
USES = ["answers", "base", "finetune"]
LEAVES = ["chats/train.jsonl", "chats/val.jsonl"]

STORIES = 5_760  # of the village, with four questions each
GB = 1e9
SAME = 1e-5  # logits that are no further apart, as a share of the largest, differ by rounding only
FEW = 200  # rows; of fewer, a held-out fact is missed
LABEL = 4  # an answer that more rows have is a label, not a fact asked in other words
PLACEHOLDER = (
    r"todo|tbd|fixme|n/?a|xxx+|lorem ipsum.*|placeholder|answer( here)?|your answer( here)?|\?*"
)
REPLY = 80  # tokens that the later steps let the model write behind a question


def expect(project):
    return [
        "Every row ends with the mark that ends an answer, and that mark is trained.",
        "The question is never trained. Rows with nothing to train: 0. Answers cut off: 0.",
        "No question is both in train and in val.",
    ]


# --- the rows ---


def village_chats(number, seed, questions):
    """Return `number` new stories, each with up to `questions` questions and answers as one chat.

    Three of five answers are whole sentences, the others a few words; all forms of the last one are accepted. Names
    stand behind a space in all of them, as they do in every story: the model knows " Mia" and not "Mia".
    """
    rng, found = random.Random(seed), []
    for _ in range(number):
        pen = village.Writer(rng)
        parts = village.tell(pen)
        asked = {a["question"]: a for a in (village.ask(rng, parts) for _ in range(2 * questions))}
        turns = []
        for a in list(asked.values())[:questions]:
            turns += [
                ("user", a["question"]),
                ("assistant", a["short" if rng.random() < 0.4 else "whole"]),
            ]
        turns[0] = "user", "".join(pen.parts) + "\n" + turns[0][1]
        accept = [a[form] for form in ("answer", "short", "whole")]
        found.append(
            {
                "messages": [{"role": role, "content": text} for role, text in turns],
                "accept": accept,
            }
        )
    return found


def sides(project):
    """Return (train, val, what was read): lists of chats, from the file that was named or from the village."""
    source = project.settings.get("answers")
    if source:
        path = project.folder / source
        chats = read_chats(path if path.exists() else hub_rows(project, source), source)
        if chats.pairs:
            raise Stop(
                f"{source} holds pairs of a better and a worse answer. Those are for: {project.command('dpo')} --answers {shlex.quote(source)}"
            )
        rows = [row | {"where": where} for row, where in zip(chats.rows, chats.places, strict=True)]
        return *hold_out(rows), chats
    if not project.settings.get("world"):
        raise Stop(
            "Which questions and answers? Name a file (.jsonl .json .csv .parquet) or a hub data set:\n"
            f"  {project.command('finetune')} --answers qa.jsonl\nThe simplest form, one a line: "
            '{"question": "Hello", "answer": "Hi!"}',
            wants="answers",
        )
    return village_chats(STORIES, 5, questions=4), village_chats(400, 6, questions=1), None


def hub_rows(project, source):
    """Return the rows of a hub data set, at most 50,000 of them."""
    from datasets import load_dataset

    from handrail import sources

    sources.locate(project, source)
    name, config, part = (source.split(":") + ["", ""])[:3]
    try:
        return list(
            islice(
                load_dataset(name, config or None, split=part or "train", streaming=True), 50_000
            )
        )
    except Exception as error:
        raise Stop(sources.hub_fault(source, error)) from error


def report(screen, chats, used):
    """Say in which form the rows were found, and name those that are not used."""
    screen.say(
        "What was found",
        [
            f"{used:,} of {chats.total:,} rows can be used: {chats.form}.",
            *chats.notes,
            *missed(chats.left_out),
        ],
    )


def missed(left_out):
    """Return {reason: where} as lines of text."""
    return [
        f"left out, {reason}: {len(where):,} ({', '.join(where[:3])}{' ...' if len(where) > 3 else ''})"
        for reason, where in left_out.items()
    ]


def encode_all(program, tokenizer, chats, left_out):
    """Return [(chat, its rows)], rows being (ids, trained); a chat that the template refuses (a system turn, say) goes to left_out."""
    coded = []
    for chat in chats:
        try:
            coded.append((chat, program.messages.encode(tokenizer, chat["messages"])))
        except Exception as error:
            left_out.setdefault(f"refused by the model's chat template ({error})", []).append(
                chat.get("where", "a story")
            )
    return coded


def size(rows):
    """Return the length of the longest of some rows."""
    return max(len(ids) for ids, _ in rows)


def fitting(coded, context, left_out):
    """Return those of [(chat, its rows)] that fit into the context; the others go to left_out."""
    for chat, rows in coded:
        if size(rows) > context:
            left_out.setdefault(f"longer than {context:,} tokens", []).append(
                chat.get("where", "a story")
            )
    return [(chat, rows) for chat, rows in coded if size(rows) <= context]


def check_number(train, val, total, left_out, limit):
    """Raise Stop when most rows are left out by this model, or too few are there."""
    used = len(train) + len(val)
    if used < total / 2:
        room = (
            f"This model reads {limit:,} tokens at once, and {REPLY} of them are kept for its reply."
            if limit
            else "Longer rows: set a larger finetune.context in settings.toml."
        )
        raise Stop(
            "\n".join(
                [
                    f"Of {total:,} rows this model can learn from {used:,}:",
                    *missed(left_out),
                    f"Change the rows, or choose another model (--from). {room}",
                ]
            )
        )
    if len(train) < 8 or not val:
        why = (
            ""
            if used < 9 or val
            else " They all ask the same question, and one that was trained cannot be asked later: that would be no exam."
        )
        raise Stop(
            f"{len(train)} examples to learn from and {len(val)} to ask: too few.{why} Some dozens are the least, some hundreds are better."
        )


# --- the plan ---


def decide_method(project, parameters):
    """Choose full fine-tuning or LoRA from the memory there is; return (method, why)."""
    memory = machine(project)["memory_gb"] * GB
    full, lora = 16 * parameters / GB, 4.5 * parameters / GB
    if not project.settings.get("base"):
        return "full", f"your own model is small: all of its weights may move ({full:.1f} GB)"
    if lora * GB > memory:
        raise Stop(
            f"{parameters / 1e9:.2g} billion weights need {lora:.0f} GB with LoRA, this machine has {memory / GB:.0f} GB. Choose a smaller "
            "model (--from), or try QLoRA, on CUDA: pip install bitsandbytes, and in `load` of finetune.py:\n"
            "  from transformers import BitsAndBytesConfig\n"
            '  four = BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16)\n'
            "  model = AutoModelForCausalLM.from_pretrained(settings.model, quantization_config=four)"
        )
    return (
        "lora",
        f"needs about {lora:.1f} GB where full fine-tuning needs {full:.1f}, and forgets less of what the model knew",
    )


def learned_positions(model):
    """Return how many tokens a model can read at once if its positions are in a table (GPT-2, OPT); None if they are computed."""
    names = [name for name, _ in [*model.named_parameters(), *model.named_buffers()]]
    config = model.config.get_text_config()
    return (
        config.max_position_embeddings
        if any(re.search("wpe|position", name) for name in names)
        else None
    )


def choose_context(project, coded, limit):
    """Return the context: what a person set, else a power of two that the examples fit into, as far as model and machine go."""
    fixed, room = (
        persons(project, "finetune").get("context"),
        limit - REPLY if limit else math.inf,
    )
    if room < 1:
        raise Stop(
            f"This model reads {limit} tokens at once, question and reply together: too few for replies of up to {REPLY}. Choose another one: --from"
        )
    if fixed and fixed > room:
        raise Stop(
            f"finetune.context = {fixed} in settings.toml: this model reads {limit} tokens at once, and {REPLY} of them are kept for its reply. Take that line out."
        )
    most = min(1024 if project.cpu else 4096, room)
    longest = max((size(rows) for _, rows in coded if size(rows) <= most), default=1)
    return fixed or min(
        max(2 ** math.ceil(math.log2(longest)), 512 if project.settings.get("base") else 256), most
    )


@torch.no_grad()
def leak(model, rows):
    """Return how far the logits of two rows move when they are laid end to end, as packing.py lays them; 0: neither reads the other."""
    parts = [torch.tensor(ids[:64]) for ids, _ in sorted(rows, key=lambda row: len(row[0]))[:2]]
    places = torch.cat([torch.arange(len(part)) for part in parts])
    packed = model(torch.cat(parts)[None], position_ids=places[None], use_cache=False).logits
    alone = torch.cat([model(part[None], use_cache=False).logits for part in parts], 1)
    return ((packed - alone).abs().max() / alone.abs().max()).item()


# --- what is held out ---


def first_question(row):
    return next(m["content"] for m in row["messages"] if m["role"] == "user")


def answer_facts(row):
    return tuple(map(frozenset, facts(row["messages"][-1]["content"])))


def alike(row, other):
    """Return True if two answers have the same numbers and names, and nearly the same words."""
    (*ours, words), (*theirs, others) = answer_facts(row), answer_facts(other)
    return ours == theirs and len(words & others) >= 0.8 * max(len(words), len(others))


def others_with_answer(rows, known):
    """Return, per row, those of `known` rows that have its answer under another question.

    An answer that many questions have is a label, such as "positive", and no fact: it has none.
    """
    groups = defaultdict(list)
    for other in known:
        groups[answer_facts(other)].append(other)
    found = []
    for row in rows:
        same = known if len(known) < FEW else groups[answer_facts(row)]
        same = [
            other
            for other in same
            if alike(row, other) and first_question(other) != first_question(row)
        ]
        found.append(same if len(same) <= LABEL and any(answer_facts(row)) else [])
    return found


def hold_out(rows):
    """Return (train, held out). A held-out row whose answer is also learned has "same_as".

    Of few rows, few are held out, since a fact that is held out is not learned: one in twelve,
    four at least, and half of them rows whose answer is still learned from another question.
    """
    train, held = split(rows)
    if len(rows) < FEW:
        by_chance = sorted(rows, key=lambda row: zlib.crc32(first_question(row).encode()))
        questions = list(dict.fromkeys(map(first_question, by_chance)))
        number = min(max(4, len(rows) // 12), len(questions) // 5)
        chosen, taken = [], set()  # questions; those whose answer has to be learned from them
        for row, same in zip(by_chance, others_with_answer(by_chance, rows), strict=True):
            asked = first_question(row)
            if same and asked not in taken and len(chosen) < number / 2:
                chosen.append(asked)
                taken |= set(map(first_question, same))
        rest = [asked for asked in questions if asked not in taken.union(chosen)]
        chosen = {*chosen, *rest[: number - len(chosen)]}
        train = [row for row in rows if first_question(row) not in chosen]
        held = [row for row in rows if first_question(row) in chosen]
    for row, same in zip(held, others_with_answer(held, train), strict=True):
        if same:
            row["same_as"] = same[0].get("where", "")
    return train, held


# --- what is wrong with the answers of a file ---


def contradictions(rows):
    """Return where one question has two different answers."""
    first, found = {}, []
    for row in rows:
        if len(row["messages"]) > 3:  # only what follows the same words can contradict
            continue
        question, answer = plain(first_question(row)), row["messages"][-1]["content"]
        before = first.setdefault(question, row)
        if plain(before["messages"][-1]["content"]) != plain(answer):
            found.append(f"{row['where']} (other than {before['where']})")
    return found


def placeholders(rows):
    """Return where an answer (or a question) was never written."""
    return [
        f"{row['where']} ({message['content'].strip()})"
        for row in rows
        for message in row["messages"][-2:]
        if re.fullmatch(PLACEHOLDER, message["content"].strip(" .!?:*-_[]<>{}()"), re.I)
    ]


def some(places, most=4):
    """Return the first of some places as text."""
    more = f" and {len(places) - most:,} more" if len(places) > most else ""
    return "; ".join(places[:most]) + more


# --- what is shown and judged ---


def show(screen, tokenizer, rows):
    """Show three rows, what is trained bright, what is only read dim; return them as text for the notebook."""
    shown = []
    screen.console.print(
        "[bold cyan]What is trained[/]  ([green]bright[/]: learned · [dim]dim[/]: only read)"
    )
    for ids, trained in rows[:3]:
        pieces = [(tokenizer.decode([i]), said) for i, said in zip(ids, trained)]
        screen.tokens(pieces)
        shown.append("".join(f"[{piece}]" if said else piece for piece, said in pieces))
    return shown


def plain(text):
    """Return a text without what tokenizers and templates may change in it: spaces, letter case, forms of one letter."""
    return "".join(unicodedata.normalize("NFKC", text).casefold().split())


def comes_back(tokenizer, chat, rows):
    """Return True if question and answer can be read in what the model gets."""
    text = plain(tokenizer.decode(rows[-1][0]))
    return all(plain(message["content"]) in text for message in chat["messages"][-2:])


def judge_tokens(tokenizer, coded, highest, V):
    """Return the checks of model and tokenizer: do they belong together?"""
    asked = coded[:200]
    lost = sum(not comes_back(tokenizer, *both) for both in asked)
    return [
        check(
            "highest token number",
            f"< {V:,}",
            f"{highest:,}",
            highest < V,
            "The model has no row for it: training would crash.",
            "take model and tokenizer from one and the same place",
        ),
        check(
            "examples that can be read again in their tokens",
            len(asked),
            len(asked) - lost,
            not lost,
            "The model gets something else than your text.",
            "does the tokenizer belong to the model, and is it whole (tokenizer.json)?",
            "warn" if lost < len(asked) / 10 else "fail",
        ),
    ]


def judge(rows, end, context, overlap):
    """Return the checks of the rows as finetune.py will have them: what is beyond the context is cut off."""
    cut = sum(sum(trained[context:]) for _, trained in rows)
    rows = [(ids[:context], trained[:context]) for ids, trained in rows]
    said = np.array([sum(trained) for _, trained in rows])
    last = sum(ids[-1] == end and trained[-1] for ids, trained in rows)
    first = sum(bool(trained[0]) for _, trained in rows)
    low, half, high = np.percentile(said, [10, 50, 90]).astype(int)
    return [
        check(
            "rows whose end mark is trained",
            f"{len(rows):,}",
            f"{last:,}",
            last == len(rows),
            "It would never learn to stop.",
            "if answers are cut off (below), a larger `finetune.context`; else look at the template: `tokenizer.chat_template`",
        ),
        check(
            "rows with nothing to train",
            0,
            f"{(said == 0).sum()}",
            bool((said > 0).all()),
            "They only cost time.",
            "are their questions longer than the context? Set a larger `finetune.context` in settings.toml, or shorten them",
        ),
        check(
            "rows trained from their first token on",
            0,
            first,
            first == 0,
            "The question would be trained as well as the answer.",
        ),
        check(
            "tokens trained in a row: 10 % · half · 90 %",
            "a few or more",
            f"{low} · {half} · {high}",
            half >= 1,
        ),
        check(
            "tokens of answers cut off",
            0,
            f"{cut:,}",
            cut == 0,
            f"Rows longer than {context} tokens lose their end.",
            "set a larger `finetune.context` in settings.toml",
            "warn",
        ),
        check(
            "questions in train and in val", 0, overlap, overlap == 0, "Then the exam is no exam."
        ),
    ]


def judge_file(chats, rows):
    """Return the checks of what a file says: copies, two answers to one question, answers never written."""
    two, todo = contradictions(rows), placeholders(rows)
    return [
        check(
            "exact copies",
            "1 % or less",
            f"{len(chats.copies):,} of {len(rows):,} rows",
            len(chats.copies) <= 0.01 * len(rows),
            f"What occurs twice is learned twice as hard: {some(chats.copies)}.",
            "delete these lines",
            "warn",
        ),
        check(
            "questions with two different answers",
            0,
            len(two),
            not two,
            f"It cannot learn both: {some(two)}.",
            "delete the wrong one",
            "warn",
        ),
        check(
            "answers never written (TODO and the like)",
            0,
            len(todo),
            not todo,
            f"It would learn to say that: {some(todo)}.",
            "write the answer, or delete the line",
            "warn",
        ),
    ]


def run(project, screen):
    if not project.settings.get("base") and not (project.out / "model").exists():
        raise Stop(
            "There is no model to fine-tune yet. First the walk: handrail. Or start from an open one: --from "
            + OPEN
        )
    train, val, chats = sides(project)
    parameters = base_parameters(project.settings.get("base") or str(project.out / "model"))
    fixed = persons(project, "finetune")
    method = (fixed["method"], "") if "method" in fixed else decide_method(project, parameters)
    program = project.load("messages")
    tokenizer, model = dressed(project, program)
    total, limit, left_out = (
        len(train) + len(val),
        learned_positions(model),
        chats.left_out if chats else {},
    )
    train, val = (encode_all(program, tokenizer, part, left_out) for part in (train, val))
    context = choose_context(project, train + val, limit)
    train, val = (fitting(part, context, left_out) for part in (train, val))  # [(chat, its rows)]
    if chats:
        report(screen, chats, len(train) + len(val))
    check_number(train, val, total, left_out, limit)
    folder = project.out / "chats"
    folder.mkdir(parents=True, exist_ok=True)
    for side, coded in (("train", train), ("val", val)):
        write_chats([chat for chat, _ in coded], folder / f"{side}.jsonl")
    rows = [row for _, coded in train for row in coded]
    end, V = model.generation_config.eos_token_id, model.get_input_embeddings().num_embeddings
    highest = max(max(ids) for _, coded in train + val for ids, _ in coded)
    moved = leak(model, rows) if highest < V else 0.0
    lengths = [len(ids) for ids, _ in rows]
    chosen = plan_finetuning(project, lengths, method, model, context, moved <= SAME)
    asked = [{first_question(chat) for chat, _ in part} for part in (train, val)]
    checks = judge_tokens(tokenizer, train, highest, V)
    checks += judge(rows, end, context, len(asked[0] & asked[1]))
    if chats:
        checks += judge_file(chats, [chat for chat, _ in train + val])
    if project.settings["finetune"].get("packed", True):
        checks.append(
            check(
                "change of a row by another in one packed row",
                f"< {SAME:g}",
                f"{moved:.1g}",
                moved < SAME,
                "They would be read as one text.",
                "finetune.packed = false in settings.toml",
            )
        )
    marks = [tokenizer.decode([end])] + (
        ["<|im_start|>"] if tokenizer.chat_template == program.messages.CHATML else []
    )
    single = all(len(tokenizer(mark, add_special_tokens=False)["input_ids"]) == 1 for mark in marks)
    checks.append(
        check(
            "marks of the template that are one token",
            ", ".join(marks),
            "yes" if single else "no",
            single,
            "They would be read as plain letters.",
        )
    )
    samples = show(screen, tokenizer, rows)
    screen.say(
        "Chosen from data and machine, in settings.toml",
        [
            f"finetune.{name} = {project.settings['finetune'][name]}: {why}"
            for name, (_, why) in chosen.items()
        ],
    )
    part = sum(sum(trained) for _, trained in rows) / sum(len(ids) for ids, _ in rows)
    again = sum("same_as" in chat for chat, _ in val)
    tells = (
        f"{len(train):,} examples to learn from. {len(val):,} are held out, to ask later: {again:,} whose answer is also "
        f"learned from another question, {len(val) - again:,} whose answer the model is never shown. Of all tokens {part:.0%} "
        "are learned; the others are read to understand the question."
    )
    return Outcome(checks, {"tells": tells}, samples)


def dressed(project, program):
    """Return (tokenizer, model) with a chat template, as finetune.py will have them."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    name = project.settings.get("base") or project.out / "model"
    tokenizer, model = (
        opened(AutoTokenizer, name),
        opened(AutoModelForCausalLM, name, use_safetensors=True, dtype=torch.float32).eval(),
    )
    try:
        program.messages.add_template(tokenizer, model)
    except ValueError as error:
        raise Stop(
            f"The chat template of {name} cannot be trained on: {error}. Choose another model, or give its tokenizer another template."
        ) from error
    return tokenizer, model
