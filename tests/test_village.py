"""The built-in world: its exact probabilities, its parser, its questions."""

import itertools
import math
import random
import re
from collections import Counter

import pytest

from handrail import village
from handrail.village import GOALS, NAMES, PLACES, THINGS, Writer, parse, stories, tell


FIRST = ('One wet Friday, Finn bought a tiny bell. Finn took the bell to the library and greeted Mia, who love'
         'd the bell. Next Finn sold Mia the bell. Before long Mia rode to the bank to sleep.')


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
    """In a world cut down to be counted in full, all texts differ, their probabilities sum to 1, and parse gives each one's own."""
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
    """At every choice the text alone says which option was taken: no option is the beginning of another."""
    class Checked(Writer):
        def pick(self, options, others=(), why=None):
            ordered = sorted(options)  # a beginning sorts right before what it begins
            assert not any(b.startswith(a) for a, b in zip(ordered, ordered[1:])), options
            return super().pick(options, others, why)

    rng = random.Random(1)
    for _ in range(300):
        tell(Checked(rng))


def test_the_same_seed_gives_the_same_stories():
    """Two machines that use one seed train on the same text, and another seed gives other stories."""
    assert some(200, seed=3) == some(200, seed=3)
    assert not {s["text"] for s in some(2000, 3)} & {s["text"] for s in some(2000, 4)}
    assert some(1)[0]["text"] == FIRST


def test_the_world_is_large_and_the_stories_short():
    """More than a billion stories (count >= e^entropy), at least 200 words, 30 to 45 words a story on average."""
    told = some(5000)
    assert math.exp(min(s["nats"] for s in told)) > 1e9
    assert len({s["text"] for s in told}) == len(told)
    assert len({w for s in told for w in re.findall(r"\w+", s["text"])}) >= 200
    assert 30 <= sum(len(s["text"].split()) for s in told) / len(told) <= 45


TALE = ("One rainy Sunday, Tom found an old rope. Tom took the rope to the bridge and met Mia, who wanted "
        "the rope. Soon Tom gave Mia the rope for a red hat. Later Mia walked to the pond and left the rope there.")
GIFT = ("One rainy Sunday, Tom found an old rope. Tom took the rope to the bridge and met Mia, who wanted "
        "the rope. Soon Mia gave Tom a red hat. Later Mia walked to the pond to rest.")


@pytest.mark.parametrize("old, new, kind, at, why", [
    ("Tom took", "Ben took", "inconsistent", "Ben took", "Ben is not in this story"),
    ("took the rope", "took the lamp", "inconsistent", "lamp to", "no lamp, but the rope"),
    ("Soon Tom", "Soon Ben", "inconsistent", "Ben gave", "Ben is not in this story"),
    ("gave Mia", "gave Anna", "inconsistent", "Anna the", "Anna is not there"),
    ("gave Mia the rope for", "gave Mia the hat for", "inconsistent", "hat for", "there is no hat"),
    ("Tom gave Mia the rope", "Mia gave Tom the rope", "inconsistent", "the rope for", "with Tom, not Mia"),
    ("wanted the rope", "wanted the hat", "inconsistent", "hat. Soon", "Tom has no hat"),
    ("left the rope", "left the hat", "inconsistent", "hat there", "the hat is with Tom, not Mia"),
    ("left the rope", "left the drum", "inconsistent", "drum there", "there is no drum"),
    ("to the pond", "to the bridge", "inconsistent", "bridge and left", "Mia is already at the bridge"),
    ("an old rope", "a old rope", "ungrammatical", "old rope", "expected"),
    ("Soon Tom", "Soon soon Tom", "ungrammatical", "soon Tom", "expected"),
    ("rope there.", "rope there. The end.", "ungrammatical", " The end.", "story is over"),
    (" there.", " the", "unfinished", "", "stops before"),
])
def test_a_broken_story_is_named_and_placed(old, new, kind, at, why):
    """A story that could not have come from the village is refused where it first goes wrong, with the right reason."""
    assert parse(TALE).valid
    text = TALE.replace(old, new, 1)
    verdict = parse(text)
    assert not verdict.valid and verdict.nats is None
    assert verdict.why.startswith(kind) and why in verdict.why
    assert text[verdict.position:].startswith(at) and (at or verdict.position == len(text))


def test_nobody_gives_what_they_do_not_have():
    """Holding nothing is tracked too: one who has nothing can neither give nor leave."""
    assert parse(GIFT).valid
    verdict = parse(GIFT.replace("to rest", "and left the hat there"))
    assert verdict.why == "inconsistent: Mia has nothing to take, leave or give"


def test_one_changed_word_is_never_misjudged():
    """Whatever one word is swapped for, parse answers: with other nats' story, or with a place not before the change."""
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
    """Read the story again by other means (regular expressions) and answer from that."""
    find, carry, gift, end = text[:-1].split(". ")
    first, thing = re.search(r", (\w+) .* (\w+)$", find).groups()
    place, second = re.search(r"to the (\w+) and \w+ (\w+), who", carry).groups()
    at, has = {first: place, second: place}, {thing: first}
    giver, taker = re.match(r"\w+ (\w+) \w+ (\w+)", gift).groups()
    new = re.search(r" an? \w+ (\w+)", gift)
    if new:
        has[new[1]] = first
    if " the " in gift:
        has[thing] = second
    assert {giver, taker} == {first, second}
    mover, goal, rest = re.search(r"(\w+) \w+ to the (\w+) (.*)$", end).groups()
    at[mover] = goal
    if left := re.match(r"and left the (\w+) there", rest):
        has[left[1]] = goal
    if gave := re.match(r"and gave the (\w+) to (\w+)", rest):
        has[gave[1]], at[gave[2]] = gave[2], goal
    about = re.search(r"(\w+)(?: have)? at the end", question)[1]
    if question.startswith("Who"):
        return has[about]
    if question.startswith("What"):
        found, = [t for t in has if has[t] == about]
        return "the " + found
    return "the " + (at[about] if about in at else at.get(has[about], has[about]))


def test_each_question_has_its_one_right_answer():
    """An independent reading of the story gives the same answer, so the answers can serve as rewards."""
    for story in some(5000, seed=2):
        assert answer(story["text"], story["question"]) == story["answer"], story


def test_questions_cannot_be_guessed():
    """Kinds of question are balanced, no answer is common, and naming the last fit word of the story fails too often to pay."""
    told = some(8000, seed=6)
    kinds = Counter("thing" if any(f" {t} " in s["question"] for t in THINGS) and s["question"][:3] == "Whe"
                    else s["question"].split()[0] for s in told)
    assert len(kinds) == 4 and min(kinds.values()) > 0.12 * len(told)
    answers = Counter(s["answer"] for s in told)
    assert answers.most_common(1)[0][1] < 0.1 * len(told)
    last = 0
    for story in told:
        pool = {"Who": NAMES, "What": THINGS, "Where": PLACES + GOALS}[story["question"].split()[0]]
        words = [w for w in re.findall(r"\w+", story["text"]) 
                 if w in pool and not re.search(rf"\b{w}\b", story["question"])]
        last += words[-1] == story["answer"].removeprefix("the ")
    assert last < 0.55 * len(told)
