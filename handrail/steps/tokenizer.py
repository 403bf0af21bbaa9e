"""Tokenizer: text becomes numbers and must come back."""

import json
from itertools import islice, pairwise

import numpy as np

from handrail.plan import bytes_per_token
from handrail.project import Stop
from handrail.screen import Outcome, check

TITLE = "The tokenizer"
FILES = ["tokenizer.py"]
USES = ["data", "vocabulary", "base", "column", "updates", "batch", "context"]
LEAVES = ["tokenizer", "tokens"]
SECONDS = (15, 25)
MORE = """Why not letters? A story of 200 letters would be 200 steps for the model, of which most say little. Why not words?
Then every new word would be unknown. Pieces in between give short texts and no unknowns. A larger vocabulary makes texts
shorter but each entry rarer, and rare entries are learned badly; so its size follows the amount of data. A model can only
ever be used with the tokenizer it was trained with: the numbers mean nothing without it."""

TRICKY = [
    "naïve café — 20 €",
    "  two  spaces\n\n\ttab",
    "日本語 और हिन्दी",
    "👩‍👩‍👧 🤷🏽",
    "\x00\x7f",
    "",
]


def guess(project):
    return "A document of 1,000 letters: how many tokens will it be?"


def expect(project):
    V = project.settings.get("vocabulary")
    size = (
        f"A vocabulary of at most {V:,} tokens."
        if V
        else f"The tokenizer comes with {project.settings['base']}."
    )
    about = f"about {bytes_per_token(V):.1f}" if V else "3 to 4.5"
    return [
        size,
        f"Every text comes back exactly as it went in. Ordinary English takes {about} bytes a token with it.",
    ]


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


def run(project, screen):
    program = project.load("tokenizer", "data")
    values, folder = program.values, project.out / "tokens"
    screen.print(
        "  learning the pieces ..."
        if not values.base
        else f"  loading the tokenizer of {values.base} ..."
    )
    if values.base:
        tokenizer = program.tokenizer.AutoTokenizer.from_pretrained(
            values.base, trust_remote_code=False
        )
    else:
        texts = program.tokenizer.sample(program.data.documents(values))
        tokenizer = program.tokenizer.train_tokenizer(texts, values.vocabulary)
    tokenizer.save_pretrained(project.out / "tokenizer")
    screen.print("  writing all documents as tokens ...")
    needed = values.updates * values.batch * values.context
    about = program.tokenizer.encode(program.data.documents(values), tokenizer, folder, needed)
    if about["train"]["tokens"] <= values.context + 1 or about["val"]["documents"] == 0:
        raise Stop(
            f"{about['train']['tokens']:,} train tokens and {about['val']['documents']} val documents are too little for a "
            f"context of {values.context}. Add texts, or choose a shorter context: {project.command()} --context 64"
        )
    texts = [document["text"] for document in islice(program.data.documents(values), 200)]
    wrong = [
        t
        for t in texts + TRICKY
        if tokenizer.decode(tokenizer(t, add_special_tokens=False)["input_ids"]) != t
    ]
    train = np.memmap(folder / "train.bin", about["dtype"], mode="r")
    highest = max(int(train[i : i + 10_000_000].max()) for i in range(0, len(train), 10_000_000))
    least = 0.7 * bytes_per_token(len(tokenizer))
    per_token = about["train"]["bytes"] / about["train"]["tokens"]
    V = len(tokenizer)
    checks = [
        check(
            "texts that came back changed",
            0,
            len(wrong),
            not wrong,
            f"For example: {wrong[:1]!r}",
            "Use ByteLevel for both pre_tokenizer and decoder.",
        ),
        check(
            "bytes per token",
            f"above {least:.1f}",
            f"{per_token:.2f}",
            per_token > least,
            "So few: the vocabulary is too small for this data or the texts are of another kind than it was learned from.",
            f"{project.command('tokenizer')}, after changing `vocabulary` in settings.toml",
            "warn",
        ),
        check("highest token number", f"< {V:,}", f"{highest:,}", highest < V),
        check(
            "numbers fit their type",
            train.dtype.name,
            f"up to {np.iinfo(train.dtype).max:,}",
            V - 1 <= np.iinfo(train.dtype).max,
        ),
        check("train tokens", f"{needed:,} wanted", f"{about['train']['tokens']:,}", True),
        check(
            "val documents", "≥ 1", f"{about['val']['documents']:,}", about["val"]["documents"] >= 1
        ),
    ]
    ids = tokenizer(texts[0], add_special_tokens=False)["input_ids"][:24]
    cut = " · ".join(tokenizer.decode([i]) for i in ids)
    screen.say("See it", [f"{cut} ...", f"the first numbers: {ids[:8]}"])
    if joined := merges(tokenizer, texts):
        screen.say("How one word is put together (_ is a space)", joined)
    epochs = needed / about["train"]["tokens"]
    tells = (
        f"1,000 letters of your text are about {1000 / per_token:.0f} tokens. The run will read the train tokens "
        + (f"{epochs:.1f} times over." if epochs > 1 else "less than once: no row is seen twice.")
    )
    return Outcome(checks, tells, [cut])
