"""From text to tokens and back.

A model does not see letters. It sees *tokens*: numbers that stand for pieces
of text. The pieces are learned from your own data (byte-pair encoding): start
from the 256 bytes, then join the most frequent neighbours until the vocabulary
is full. Frequent words become one token, rare ones several, and nothing is
ever unknown, because every text is bytes.

The trap: decode must give back exactly what was encoded, and every id must fit
the type that it is stored in. Neither failure raises an error later on.
"""

import json

import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from data import documents, is_val
from settings import OUT, read, refuse

SAMPLE = 20_000_000  # characters that the pieces are learned from
END, PAD = "<|endoftext|>", "<|pad|>"  # END stands between documents


def train_tokenizer(texts, vocabulary):
    """Return a Transformers tokenizer with at most `vocabulary` tokens, learned from an iterable of str."""
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=[END, PAD], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, bos_token=END, eos_token=END, pad_token=PAD)


def sample(documents, characters=SAMPLE):
    """Yield the text of the first train documents, about `characters` in all."""
    for document in documents:
        if characters <= 0:
            return
        if not is_val(document["text"]):
            characters -= len(document["text"])
            yield document["text"]


def groups(documents, characters=1_000_000):
    """Yield lists of documents of about `characters` in all: enough to keep every core busy, little in memory."""
    group, size = [], 0
    for document in documents:
        group.append(document)
        size += len(document["text"])
        if size >= characters:
            yield group
            group, size = [], 0
    yield group


def encode(documents, tokenizer, folder, limit=float("inf")):
    """Write folder/train.bin and val.bin: END, document, END, document, END ...; return what was counted.

    Stops once train has `limit` tokens: a huge source is read only as far as the run needs it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = np.uint16 if len(tokenizer) <= 2**16 else np.uint32
    end = np.array([tokenizer.eos_token_id], kind)
    about = {"dtype": np.dtype(kind).name, "whole": True}
    about |= {side: {"documents": 0, "tokens": 1, "bytes": 0, "nats": 0.0} for side in ("train", "val")}
    with open(folder / "train.bin", "wb") as train, open(folder / "val.bin", "wb") as val:
        end.tofile(train), end.tofile(val)
        for group in groups(documents):
            coded = tokenizer.backend_tokenizer.encode_batch_fast([d["text"] for d in group], add_special_tokens=False)
            for document, code in zip(group, coded):
                side, file = ("val", val) if is_val(document["text"]) else ("train", train)
                ids = np.array(code.ids + [tokenizer.eos_token_id], kind)
                ids.tofile(file)
                about[side]["documents"] += 1
                about[side]["tokens"] += len(ids)
                about[side]["bytes"] += len(document["text"].encode())
                about[side]["nats"] += document["nats"] if isinstance(document.get("nats"), float) else 0
            if about["train"]["tokens"] >= limit:
                about["whole"] = False
                break
    (folder / "about.json").write_text(json.dumps(about, indent=1))
    return about


if __name__ == "__main__":
    settings = read("Learn a tokenizer from the data and write the data as tokens.")
    if (OUT / "checkpoints").exists():
        refuse("out/checkpoints belongs to a run on the tokens that lie here. For another run, first: mv out out-before")
    if settings.base:
        tokenizer = AutoTokenizer.from_pretrained(settings.base, trust_remote_code=False)
    else:
        tokenizer = train_tokenizer(sample(documents(settings)), settings.vocabulary)
    tokenizer.save_pretrained(OUT / "tokenizer")
    about = encode(documents(settings), tokenizer, OUT / "tokens", settings.updates * settings.batch * settings.context)
    if not about["train"]["documents"]:
        refuse(f"No text was found in {settings.data}, column {settings.column!r}. Mend `data` or `column` in settings.toml.")
    print(about)
