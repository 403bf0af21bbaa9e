"""Tokenizer: text becomes numbers and must come back."""

import json
from itertools import islice, pairwise

import numpy as np

from handrail.data.text_files import problem
from handrail.project.plan import bytes_per_token
from handrail.project.project import Stop
from handrail.project.screen import Outcome
from handrail.steps.words import Words, shown_if

FILES = ["tokenizer.py"]
USES = ["data", "vocabulary", "base", "column", "updates", "batch", "context"]
LEAVES = ["tokenizer", "tokens", "tokens/about.json"]

TRICKY = [
    "naïve café — 20 €",
    "  two  spaces\n\n\ttab",
    "日本語 और हिन्दी",
    "👩‍👩‍👧 🤷🏽",
    "\x00\x7f",
    "",
]


def expect(project):
    V = project.settings.get("vocabulary")
    return {
        "V": V and f"{V:,}",
        "base": None if V else project.settings["base"],
        "per_token": V and bytes_per_token(V),
    }


def merges(tokenizer, texts):
    """Return a word of the texts as it is put together: its letters, then each merge, as lines."""
    model = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    if model["type"] != "BPE":
        return []
    ranks = {tuple(pair): rank for rank, pair in enumerate(model["merges"])}
    space = "Ġ"  # how byte-level tokenizers write it
    words = {word for text in texts for word in text.split() if word.isascii() and word.isalpha()}
    longest = max(words, key=lambda word: (len(word) <= 10, len(word), word), default="")
    pieces = [space, *longest]
    lines = [" ".join(pieces).replace(space, "_")]
    while pairs := [(ranks[p], i) for i, p in enumerate(pairwise(pieces)) if p in ranks]:
        _, place = min(pairs)  # the pair that was joined first while learning
        pieces[place : place + 2] = [pieces[place] + pieces[place + 1]]
        lines.append(" ".join(pieces).replace(space, "_"))
    return lines


def learned(project, screen, program):
    """Return the project's tokenizer: learned from its data, or that of the model to start from."""
    base = program.values.base
    if base:
        screen.print(f"  loading the tokenizer of {base} ...")
        return program.tokenizer.AutoTokenizer.from_pretrained(base, trust_remote_code=False)
    screen.print("  learning the pieces ...")
    texts = program.tokenizer.sample(program.data.documents(program.values))
    return program.tokenizer.train_tokenizer(texts, program.values.vocabulary)


def changed_by(tokenizer, texts):
    """Return the texts that do not come back from the tokenizer as they went in."""
    codes = [tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts]
    pairs = zip(texts, codes, strict=True)
    return [text for text, ids in pairs if tokenizer.decode(ids) != text]


def run(project, screen):
    program = project.load("tokenizer", "data")
    values, folder = program.values, project.out / "tokens"
    tokenizer = learned(project, screen, program)
    tokenizer.save_pretrained(project.out / "tokenizer")
    screen.print("  writing all documents as tokens ...")
    needed = values.updates * values.batch * values.context
    about = program.tokenizer.encode(program.data.documents(values), tokenizer, folder, needed)
    train = about["train"]["tokens"]
    if train <= values.context + 1 or about["val"]["documents"] == 0:
        about = {"train": train, "val": about["val"]["documents"], "context": values.context}
        raise Stop(problem("too few tokens", command=project.command(" --context 64"), **about))
    texts = [document["text"] for document in islice(program.data.documents(values), 200)]
    wrong = changed_by(tokenizer, texts + TRICKY)
    checks, found = judge(project, tokenizer, about, needed, wrong, len(texts + TRICKY))
    ids = tokenizer(texts[0], add_special_tokens=False)["input_ids"][:20]
    pieces = [tokenizer.decode([i]) for i in ids]
    numbers = [f"{piece!r} is {i}" for piece, i in zip(pieces[:6], ids, strict=False)]
    cut = " · ".join(pieces)
    screen.say("A text as the model sees it", numbers)
    screen.say("Its first tokens", cut)
    if joined := merges(tokenizer, texts):
        screen.say("How one word is put together (_ is a space)", joined)
    return Outcome(checks, found, [cut])


def judge(project, tokenizer, about, needed, wrong, tried):
    """Return the checks of what was written, and the values of the step's words."""
    train, val, size = about["train"]["tokens"], about["val"]["documents"], len(tokenizer)
    tokens = np.memmap(project.out / "tokens" / "train.bin", about["dtype"], mode="r")
    parts = (tokens[i : i + 10_000_000] for i in range(0, train, 10_000_000))
    highest, per_token = max(int(part.max()) for part in parts), about["train"]["bytes"] / train
    most, usual = np.iinfo(tokens.dtype).max, bytes_per_token(size)
    found = {"size": size, "V": f"{size:,}", "half": size // 2, "format": tokens.dtype.name}
    found |= {"measured": per_token, "usual": usual, "least": 0.7 * usual, "most": most}
    found |= {"thousand": 1000 / per_token, "answer": f"{1000 / per_token:.0f} tokens"}
    found |= {"train": train, "needed": needed, "reads": needed, "epochs": needed / train}
    found |= {"read": about["train"]["documents"], "documents": val}
    found |= {"wrong": wrong[:1], "tried": tried}
    data = project.record("data")
    known = data["values"].get("val") if data else val
    base, allowed = project.settings.get("base"), project.settings.get("vocabulary")
    found |= {"allowed": allowed}
    found |= shown_if(again=needed > train, once=needed <= train, fixed=base, free=not base)
    found |= shown_if(part=known and val < known, full=allowed and size < allowed)
    words, enough = Words(project, "tokenizer"), per_token > found["least"]
    checks = [
        words.check("texts that came back changed", len(wrong), not wrong, **found),
        words.check("bytes per token", f"{per_token:.2f}", enough, "warn", **found),
        words.check("highest token number", f"{highest:,}", highest < size, **found),
        words.check("numbers fit their format", f"{highest:,}", size - 1 <= most, **found),
        words.check("train tokens", f"{train:,}", True, **found),
        words.check("val documents", f"{val:,}", True),
    ]
    return checks, found
