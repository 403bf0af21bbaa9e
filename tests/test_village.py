"""The built-in world: its exact probabilities, its parser, its questions."""

import itertools
import json
import math
import random
import re
from collections import Counter

import numpy as np
import pytest
from transformers import AutoTokenizer

from handrail.data import village
from handrail.data.village import GOALS, NAMES, PLACES, THINGS, Writer, parse, stories, tell

FIRST = (
    "One wet Friday, Finn bought a tiny bell. Finn took the bell to the library and greeted Mia, "
    "who loved the bell. Next Finn sold Mia the bell. Mia stayed at the library. "
    "Before long Finn walked to the square for lunch."
)


def some(n, seed=0):
    return list(itertools.islice(stories(seed), n))


class Every:
    """A pen that walks through all stories, one derivation after another."""

    def __init__(self):
        self.path = []  # [choice, number of options] at each choice of this story

    def say(self, text):
        self.text += text

    def pick(self, options, others=(), why=None):
        for a, b in itertools.permutations(options, 2):
            assert not b.startswith(a), f"{a!r} begins {b!r}"
        if self.depth == len(self.path):
            self.path.append([0, len(options)])
        option = options[self.path[self.depth][0]]
        self.depth += 1
        self.text += option
        return option

    def all(self):
        while True:
            self.text, self.depth = "", 0
            tell(self)
            yield self.text, math.prod(n for _, n in self.path)
            while self.path and self.path[-1][0] == self.path[-1][1] - 1:
                self.path.pop()
            if not self.path:
                return
            self.path[-1][0] += 1


def test_every_story_has_one_derivation(monkeypatch):
    """In a world cut down to be counted in full, all texts differ, their probabilities sum to 1,
    and parse gives each one's own.
    """
    for name, value in list(vars(village).items()):
        if name.isupper() and name not in ("ENDS", "HOLDING"):
            monkeypatch.setattr(village, name, value[:1])
    monkeypatch.setattr(village, "NAMES", ["Tom", "Mia", "Ben"])
    monkeypatch.setattr(village, "THINGS", ["rope", "hat"])
    monkeypatch.setattr(village, "GOALS", ["pond", "well"])
    told = list(Every().all())
    assert len({text for text, _ in told}) == len(told) > 100
    assert math.fsum(1 / ways for _, ways in told) == pytest.approx(1, abs=1e-9)
    for text, ways in told:
        assert parse(text).nats == math.log(ways)


def test_parse_inverts_stories():
    """The parser recovers the exact nats of every story, which is what makes the floor exact."""
    for story in some(5000, seed=7):
        verdict = parse(story["text"])
        assert verdict.valid and verdict.position == len(story["text"])
        assert verdict.nats == pytest.approx(story["nats"], abs=1e-9)


def test_no_option_begins_another():
    """At every choice the text alone says which option was taken: no option is the beginning of
    another.
    """

    class Checked(Writer):
        def pick(self, options, others=(), why=None):
            ordered = sorted(options)  # a beginning sorts right before what it begins
            assert not any(b.startswith(a) for a, b in zip(ordered, ordered[1:], strict=False)), (
                options
            )
            return super().pick(options, others, why)

    rng = random.Random(1)
    for _ in range(300):
        tell(Checked(rng))


def test_the_same_seed_gives_the_same_stories():
    """Two machines with one seed train on the same text, and another seed gives other stories."""
    assert some(200, seed=3) == some(200, seed=3)
    assert not {s["text"] for s in some(2000, 3)} & {s["text"] for s in some(2000, 4)}
    assert some(1)[0]["text"] == FIRST


def test_the_world_is_large_and_the_stories_short():
    """More than a billion stories (count >= e^entropy), at least 200 words, 30 to 50 words a story
    on average.
    """
    told = some(5000)
    assert math.exp(min(s["nats"] for s in told)) > 1e9
    assert len({s["text"] for s in told}) == len(told)
    assert len({w for s in told for w in re.findall(r"\w+", s["text"])}) >= 200
    assert 30 <= sum(len(s["text"].split()) for s in told) / len(told) <= 50


TALE = (
    "One rainy Sunday, Tom found an old rope. Tom took the rope to the bridge and met Mia, "
    "who wanted the rope. Soon Tom gave Mia the rope, and Mia gave Tom a red hat. "
    "Tom stayed at the bridge. Later Mia took the rope to the pond and left the rope there."
)
GIFT = (
    "One rainy Sunday, Tom found an old rope. Tom took the rope to the bridge and met Mia, "
    "who wanted the rope. Soon Mia gave Tom a red hat. "
    "Tom stayed at the bridge. Later Mia walked to the pond to rest."
)


@pytest.mark.parametrize(
    "old, new, kind, at, why",
    [
        ("Tom took", "Ben took", "inconsistent", "Ben took", "Ben is not in this story"),
        ("took the rope", "took the lamp", "inconsistent", "lamp to", "no lamp, but the rope"),
        ("Soon Tom", "Soon Ben", "inconsistent", "Ben gave", "Ben is not in this story"),
        ("gave Mia", "gave Anna", "inconsistent", "Anna the", "Anna is not there"),
        ("gave Mia the rope", "gave Mia the hat", "inconsistent", "hat, and", "there is no hat"),
        (
            "Tom gave Mia the rope",
            "Mia gave Tom the rope",
            "inconsistent",
            "the rope, and",
            "with Tom, not Mia",
        ),
        (
            "and Mia gave Tom",
            "and Tom gave Mia",
            "inconsistent",
            "Tom gave Mia a",
            "Tom gives nothing, Mia does",
        ),
        ("and Mia gave", "and Mia sold", "ungrammatical", "sold Tom", "expected"),
        ("wanted the rope", "wanted the hat", "inconsistent", "hat. Soon", "Tom has no hat"),
        (
            "Mia took the rope",
            "Mia took the hat",
            "inconsistent",
            "hat to",
            "the hat is with Tom, not Mia",
        ),
        ("Mia took the rope", "Mia took the drum", "inconsistent", "drum to", "there is no drum"),
        (
            "left the rope",
            "left the hat",
            "inconsistent",
            "hat there",
            "has taken the rope along, not the hat",
        ),
        ("Mia took the rope", "Mia walked", "inconsistent", " and left", "has taken nothing along"),
        (
            "to the pond",
            "to the bridge",
            "inconsistent",
            "bridge and left",
            "Mia is already at the bridge",
        ),
        (
            "Tom stayed",
            "Mia stayed",
            "inconsistent",
            "Mia took the rope to the pond",
            "Mia stayed at the bridge",
        ),
        ("Tom stayed", "Ben stayed", "inconsistent", "Ben stayed", "Ben is not in this story"),
        ("Later Mia", "Later Anna", "inconsistent", "Anna took", "Anna is not in this story"),
        (
            "at the bridge",
            "at the pond",
            "inconsistent",
            "pond. Later",
            "Tom is at the bridge, not the pond",
        ),
        ("an old rope", "a old rope", "ungrammatical", "old rope", "expected"),
        ("Soon Tom", "Soon soon Tom", "ungrammatical", "soon Tom", "expected"),
        ("rope there.", "rope there. The end.", "ungrammatical", " The end.", "story is over"),
        ("the rope there.", "the", "unfinished", "", "stops before"),
    ],
)
def test_a_broken_story_is_named_and_placed(old, new, kind, at, why):
    """A story that could not have come from the village is refused where it first goes wrong, with
    the right reason.
    """
    assert parse(TALE).valid
    text = TALE.replace(old, new, 1)
    verdict = parse(text)
    assert not verdict.valid and verdict.nats is None
    assert verdict.why.startswith(kind) and why in verdict.why
    assert text[verdict.position :].startswith(at) and (at or verdict.position == len(text))


def test_nobody_gives_what_they_do_not_have():
    """Holding nothing is tracked too: one who has nothing can take nothing along."""
    assert parse(GIFT).valid
    verdict = parse(GIFT.replace("walked", "took the hat"))
    assert verdict.why == "inconsistent: Mia has nothing to take"


def test_one_changed_word_is_never_misjudged():
    """Whatever one word is swapped for, parse answers: with other nats' story, or with a place not
    before the change.
    """
    rng = random.Random(0)
    words = sorted({w for s in some(500) for w in s["text"].split()})
    for story in some(1000, seed=5):
        parts = story["text"].split(" ")
        i = rng.randrange(len(parts))
        before = len(" ".join(parts[:i]))
        parts[i] = rng.choice(words)
        verdict = parse(" ".join(parts))
        assert verdict.valid or verdict.position >= before


def answer(text, question):
    """Read the story again by other means (regular expressions) and answer from that; raise if it
    contradicts itself.
    """
    find, carry, gift, stay, end = text[:-1].split(". ")
    first, thing = re.search(r", (\w+) .* (\w+)$", find).groups()
    place, second = re.search(r"to the (\w+) and \w+ (\w+), who", carry).groups()
    has = {thing: first}
    for giver, taker, given in re.findall(r"(\w+) \w+ (\w+) (?:the|an? \w+) (\w+)", gift):
        assert {giver, taker} == {first, second} and has.get(given, giver) == giver
        has[given] = taker
    mover, taken = re.search(r"(\w+) \w+ (?:the (\w+) )?to the \w+ .*$", end).groups()
    other = first if mover == second else second
    assert stay == f"{other} stayed at the {place}" and (not taken or has[taken] == mover)
    return {
        f"Who brought the {thing} to the {place}?": first,
        f"What did {first} bring to the {place}?": "the " + thing,
        f"Who did {first} meet?": second,
        f"Where did {first} and {second} meet?": "the " + place,
        f"Who stayed at the {place}?": other,
        f"Where did {other} stay?": "the " + place,
    }[question]


def test_each_question_has_its_one_right_answer():
    """An independent reading of the story gives the same answer, so the answers can serve as
    rewards.
    """
    for story in some(5000, seed=2):
        assert answer(story["text"], story["question"]) == story["answer"], story
        assert all(story["answer"] in story[form] for form in ("short", "whole"))


def test_questions_cannot_be_guessed():
    """Kinds of question are balanced, no answer is common, and no rule that a model could fall
    into answers 95 %.

    The rules: name the first, or the last, fitting word of the story that the question does
    not contain.
    """
    told = some(8000, seed=6)
    kinds = Counter(
        re.sub(r"\b[A-Z]\w+|the \w+", "X", s["question"][3:]) + s["question"][:5] for s in told
    )
    assert len(kinds) == 6 and min(kinds.values()) > 0.15 * len(told)
    assert Counter(s["answer"] for s in told).most_common(1)[0][1] < 0.1 * len(told)
    rules = {"first": 0, "last": 0}
    for story in told:
        pool = {"Who": NAMES, "What": THINGS, "Where": PLACES + GOALS}[story["question"].split()[0]]
        words = [
            w
            for w in re.findall(r"\w+", story["text"])
            if w in pool and not re.search(rf"\b{w}\b", story["question"])
        ]
        answer = story["answer"].removeprefix("the ")
        rules["first"] += words[0] == answer
        rules["last"] += words[-1] == answer
    assert rules["last"] < 0.4 * len(told) and rules["first"] < 0.93 * len(told)


def test_the_floor_of_a_run_is_that_of_the_stories_it_is_measured_on(walked):
    """The loss that no honest model can go below, as evaluate.py prints it: read back from the
    tokens of val, each story parsed again, it is the sum in out/floor.json and the number in the
    exam; the model is above it.
    """
    out = walked[0] / "out"
    tokenizer = AutoTokenizer.from_pretrained(out / "tokenizer")
    tokens = np.fromfile(out / "tokens" / "val.bin", np.uint16)
    ends = np.flatnonzero(tokens == tokenizer.eos_token_id)
    told = [tokenizer.decode(tokens[a + 1 : b]) for a, b in itertools.pairwise(ends)]
    nats = [parse(text).nats for text in told]
    about = json.loads((out / "tokens" / "about.json").read_text())["val"]
    written = json.loads((out / "floor.json").read_text())
    assert len(nats) == about["documents"] > 50
    assert nats == pytest.approx(written[: len(nats)], abs=1e-9)
    exam = json.loads((out / "evaluation.json").read_text())
    assert exam["floor"] == pytest.approx(math.fsum(nats) / (len(tokens) - 1), abs=1e-9)
    assert exam["floor"] < exam["model"] < exam["uniform"]
