"""What is wrong with documents: counted over all that the learner's data.py gives."""

import random
from array import array
from collections import Counter
from dataclasses import dataclass, field

from handrail.data.text_files import LOOK

SAMPLE = 2_000  # documents in which near duplicates are looked for


@dataclass
class Documents:
    """What was counted over all documents that were looked at."""

    lengths: array = field(default_factory=lambda: array("Q"))  # characters
    bytes: int = 0
    copies: tuple = field(default_factory=lambda: (Counter(), Counter()))  # train, val: by hash
    moved: int = 0  # asked twice, is_val gave two answers
    sample: list = field(default_factory=list)  # (hash of the whole text, its beginning)
    val_text: str = ""
    val_nats: list = field(default_factory=list)  # lowest possible loss, if the data tells it
    most: str = ""  # the text that is there most often
    whole: bool = True

    @property
    def number(self):
        return len(self.lengths)


def count(program):
    """Return the Documents of the first LOOK bytes."""
    found, rng, most = Documents(), random.Random(0), 0
    for document in program.data.documents(program.values):
        text, mark = document["text"], hash(document["text"].strip())
        val = bool(program.data.is_val(text))
        found.moved += bool(program.data.is_val(text)) != val
        found.copies[val][mark] += 1
        if found.copies[val][mark] > most:
            most, found.most = found.copies[val][mark], text
        found.lengths.append(len(text))
        found.bytes += len(text.encode())
        if val and isinstance(document.get("nats"), float):
            found.val_nats.append(document["nats"])
        if val and len(found.val_text.split()) < 8:
            found.val_text = text
        place = found.number - 1 if found.number <= SAMPLE else rng.randrange(found.number)
        if place < SAMPLE:  # each document has the same chance to be in the sample
            found.sample[place : place + 1] = [(mark, text[:4000])]
        if found.bytes > LOOK:
            found.whole = False
            break
    return found


def near_duplicates(texts):
    """Return the share of `texts` (no exact copies among them) that are nearly one before.

    Nearly: at least 80% of their groups of three words are the same.
    """
    from datasketch import MinHash, MinHashLSH

    index, near = MinHashLSH(threshold=0.8, num_perm=64), 0
    for number, text in enumerate(texts):
        words, mark = text.split(), MinHash(num_perm=64)
        mark.update_batch(
            [" ".join(words[i : i + 3]).encode() for i in range(max(1, len(words) - 2))]
        )
        near += bool(index.query(mark))
        index.insert(number, mark)
    return near / max(1, len(texts))
