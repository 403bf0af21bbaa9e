"""Do tokens decode to the text that went in? What a tokenizer drops, no model can learn."""

import unicodedata
from collections import Counter
from contextlib import contextmanager, suppress

from ..findings import finding

TEXTS, LENGTH = 4, 2000  # of one call, and of one text: characters
ENOUGH = 500  # letters and digits that have to be looked at
MOST = 5000
LOST = 0.005  # of the letters, where the tokenizer has no token for what it does not know
UNKNOWN = 0.3  # of the tokens, where it has one


class ReadBack:
    """Encodes and decodes some of the texts that the program encodes."""

    def __init__(self, doctor):
        self.doctor, self.tried, self.done = doctor, {}, False

    def encoded(self, tokenizer, text):
        if self.done or hasattr(tokenizer, "word_delimiter_token"):  # CTC: its tokens are sounds
            return
        tried = self.tried.setdefault(id(tokenizer), Tried())
        if tried.letters.total() >= MOST:
            return
        texts = [text] if isinstance(text, str) else text
        for one in texts[:TEXTS] if isinstance(texts, (list, tuple)) else ():
            if isinstance(one, str):
                # a tokenizer of somebody's own that cannot decode
                with kept(tokenizer), suppress(Exception):
                    tried.add(tokenizer, one[:LENGTH])
        if tried.letters.total() >= ENOUGH:
            yield from self.judge(tried)

    def judge(self, tried):
        letters, lost = tried.letters.total(), tried.lost.total()
        examples = ", ".join(f"{letter!r} ({n})" for letter, n in tried.lost.most_common(6))
        evidence = f"{lost:,} of {letters:,} letters and digits do not come back: {examples}"
        if tried.unknown > UNKNOWN * tried.tokens:
            share = tried.unknown / tried.tokens
            evidence = f"{share:.0%} of the tokens are the unknown token; {evidence}"
            way = "text-lost-in-tokens/unknown"
        elif not tried.unknown and lost > LOST * letters:
            way = "text-lost-in-tokens"
        else:
            return
        self.done = True
        yield finding(way, evidence, self.doctor.updates)


@contextmanager
def kept(tokenizer):
    """In here texts may be encoded in another way; then the next is cut and filled up as before."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    cut, filled = getattr(fast, "truncation", None), getattr(fast, "padding", None)
    try:
        yield
    finally:
        if cut:
            fast.enable_truncation(**cut)
        if filled:
            fast.enable_padding(**filled)


class Tried:
    """What came back of the texts of one tokenizer."""

    def __init__(self):
        self.letters, self.lost, self.tokens, self.unknown = Counter(), Counter(), 0, 0

    def add(self, tokenizer, text):
        for mark in {*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()}:
            text = text.replace(mark, " ")
        ids = tokenizer.encode(text, add_special_tokens=False, verbose=False)
        back = letters_of(tokenizer.decode(ids, skip_special_tokens=True))
        there = letters_of(text)
        self.letters += there
        self.lost += there - back
        self.tokens += len(ids)
        unknown = tokenizer.unk_token_id
        self.unknown += 0 if unknown is None else ids.count(unknown)


def letters_of(text):
    """Count letters and digits; case, accents and blanks do not matter."""
    plain = unicodedata.normalize("NFKD", text.casefold())
    return Counter(letter for letter in plain if letter.isalnum())
