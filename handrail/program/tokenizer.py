"""From text to tokens and back.

A model does not see letters. It sees *tokens*: numbers that stand for pieces of
text. The pieces are learned from your own data (byte-pair encoding): start with
the 256 bytes, then join the two neighbours that occur together most often into
a new piece, again and again, until the vocabulary is full or every word of the
data is one piece. Common words become one token, rare ones several, and no text
is ever unreadable, because all text is stored as bytes.

The trap: decoding must give back exactly what was encoded, and every token
number must fit the number format that it is stored in. If either goes wrong,
nothing will warn you later.
"""

import json
from itertools import islice

import numpy as np
from transformers import AutoTokenizer, GPT2Tokenizer

from data import documents, is_val
from settings import OUT, read, refuse

SAMPLE = 20_000_000  # characters that the pieces are learned from


def train_tokenizer(texts, vocabulary):
    """Return a Transformers tokenizer of at most `vocabulary` tokens, learned from the texts.

    It is GPT-2's, emptied: <|endoftext|>, called END here, goes between documents.
    """
    empty = GPT2Tokenizer(pad_token="<|pad|>")
    return empty.train_new_from_iterator(texts, vocabulary, show_progress=False)


def sample(documents, characters=SAMPLE):
    """Yield the texts of the first train documents, about `characters` in all."""
    for document in documents:
        if characters <= 0:
            return
        if not is_val(document["text"]):
            characters -= len(document["text"])
            yield document["text"]


def encode(documents, tokenizer, folder, limit=float("inf")):
    """Write folder/train.bin and val.bin: END, document, END, document, END ...; return the counts.

    Stops once train has `limit` tokens: a huge source is read only as far as the run needs it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = np.uint16 if len(tokenizer) <= 2**16 else np.uint32  # 2 bytes per token, if they suffice
    (folder / "about.json").unlink(missing_ok=True)  # it is there when the tokens are whole
    about = {"dtype": np.dtype(kind).name}
    about |= {side: {"documents": 0, "tokens": 1, "bytes": 0} for side in ("train", "val")}
    with open(folder / "train.bin", "wb") as train, open(folder / "val.bin", "wb") as val:
        for file in (train, val):
            np.array([tokenizer.eos_token_id], kind).tofile(file)
        documents = (document["text"] for document in documents)
        while texts := list(islice(documents, 500)):  # enough for all cores, little memory
            codes = tokenizer.backend_tokenizer.encode_batch_fast(texts, add_special_tokens=False)
            for text, code in zip(texts, codes, strict=True):
                side, file = ("val", val) if is_val(text) else ("train", train)
                np.array(code.ids + [tokenizer.eos_token_id], kind).tofile(file)
                about[side]["documents"] += 1
                about[side]["tokens"] += len(code.ids) + 1
                about[side]["bytes"] += len(text.encode())
            if about["train"]["tokens"] >= limit:
                break
    (folder / "about.json").write_text(json.dumps(about, indent=1))
    return about


if __name__ == "__main__":
    settings = read("Learn a tokenizer from the data, and write the data as tokens.")
    if settings.out != OUT:
        refuse("The tokens of all runs are in out/tokens: tokenizer.py has no other --out.")
    if settings.base:
        tokenizer = AutoTokenizer.from_pretrained(settings.base, trust_remote_code=False)
    else:
        tokenizer = train_tokenizer(sample(documents(settings)), settings.vocabulary)
    tokenizer.save_pretrained(OUT / "tokenizer")
    needed = settings.updates * settings.batch * settings.context
    about = encode(documents(settings), tokenizer, OUT / "tokens", needed)
    if not about["train"]["documents"] or not about["val"]["documents"]:
        refuse(f"{settings.data} has no text (column {settings.column!r}), or too little for val.")
    for side in ("train", "val"):
        print(f"{side}: {about[side]['documents']:,} documents, {about[side]['tokens']:,} tokens")
