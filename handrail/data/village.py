"""village: short, consistent stories from a known source, to learn on.

Why this world exists. Text from the internet cannot tell you how good a model
could become. These stories can, because we hold the source they come from:

- the floor: every story is a series of fair choices, so one that took choices
  among n1, n2, n3 ... options has probability 1 / (n1 * n2 * n3 * ...), exactly.
  The mean of its negative logarithm ("nats") is the lowest loss that any honest
  model can reach on stories it has not seen. One that goes lower has leaked.
- the grammar: a story that a model made up can be checked, word by word.
- the answers: each story comes with a question and its one right answer.

What goes in: a seed; the words are in village.toml. What comes out: `stories(seed)`, without
end, each a dict of text, nats, question and its answer (bare, short and whole); and `parse(text)`,
which says whether a text could have come from here, how likely it was, or where it first goes
wrong and why.

How the two stay in step: `tell` is the only description of a story. It runs left to
right and asks a pen for each choice. A `Writer` draws the choice; a `Reader` finds
it in a given text. Each story has exactly one derivation, so its nats are exact.

The trap: that holds only while no option at a choice is the beginning of another
("car", "cart"). Add words freely, and run the tests afterwards.
"""

import math
import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from os.path import commonprefix
from pathlib import Path

world = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
NAMES, THINGS, PLACES, GOALS, WEATHER, TIMES, PURPOSES = (
    world[kind].split() for kind in "names things places goals weather times purposes".split()
)
ADJECTIVES = [f"an {word}" for word in world["with_an"].split()]
ADJECTIVES += [f"a {word}" for word in world["with_a"].split()]
FINDS, CARRIES, MEETS, WANTS = (world[part] for part in "finds carries meets wants".split())
THEN, ENDS, GIVES, LATER = (world[part] for part in "then ends gives later".split())
GOES, IDLE, LEAVES = (world[part] for part in "goes idle leaves".split())
QUESTIONS = world["questions"]  # each with its answer: bare, in a few words, in a whole sentence


@dataclass
class Verdict:
    valid: bool
    nats: float | None  # -log P(text), natural logarithm; None when not valid
    position: int  # the character where the text first goes wrong; its length when valid
    why: str


class Wrong(Exception):
    """Raised by a Reader: (position, why)."""


class Writer:
    """The pen that makes a story up."""

    def __init__(self, rng: random.Random):
        self.random, self.parts, self.ways = rng.random, [], 1

    def say(self, text):
        self.parts.append(text)

    def pick(self, options, others=(), why=None):
        # random() is the one draw that Python promises never to change for a given seed
        chosen = options[int(self.random() * len(options))]
        self.parts.append(chosen)
        self.ways *= len(options)
        return chosen


class Reader:
    """The pen that follows a given text and recovers each choice."""

    def __init__(self, text: str):
        self.text, self.position, self.ways = text, 0, 1

    def say(self, text):
        self.pick([text])

    def pick(self, options, others=(), why=None):
        """`others` would be grammatical here but contradict the story; `why(other)` says how."""
        for option in options:
            if self.text.startswith(option, self.position):
                self.position += len(option)
                self.ways *= len(options)
                return option
        rest = self.text[self.position :]
        for other in others:
            if rest.startswith(other) and not (other[-1] + rest[len(other) :][:1]).isalpha():
                raise Wrong(self.position, "inconsistent: " + why(other))
        same = max(len(commonprefix([rest, option])) for option in options)
        if same == len(rest):
            raise Wrong(len(self.text), "unfinished: the text stops before the story ends")
        wanted = " or ".join(repr(option) for option in options[:3])
        more = f" or {len(options) - 3} others" if len(options) > 3 else ""
        raise Wrong(
            self.position + same, f"ungrammatical: expected {wanted}{more}, found {rest[:20]!r}"
        )


def but(options, *used):
    return [option for option in options if option not in used]


def tell(pen) -> dict:
    """Tell one story; return who and what played which part in it, for `ask`."""
    say, pick = pen.say, pen.pick
    has = {}  # thing: who has it, or where it was left

    def other_thing(thing, person):
        if thing not in has:
            return f"there is no {thing} in this story"
        return f"the {thing} is with {has[thing]}, not {person}"

    def taken(word):
        return f"the {word} is with {has[word]}"

    # "One rainy Sunday, Tom found an old rope."
    say("One "), pick(WEATHER), say(" "), pick(TIMES), say(", ")
    first = pick(NAMES)
    pick(FINDS), pick(ADJECTIVES), say(" ")
    thing = pick(THINGS)
    has[thing] = first

    # "Tom took the rope to the bridge and met Mia, who liked the rope."
    say(". ")
    pick([first], NAMES, lambda word: f"{word} is not in this story")
    pick(CARRIES)
    pick([thing], THINGS, lambda word: f"{first} has no {word}, but the {thing}")
    say(" to the ")
    place = pick(PLACES)
    pick(MEETS)
    second = pick(but(NAMES, first), NAMES, lambda word: f"{word} cannot meet {word}")
    pick(WANTS)
    pick([thing], THINGS, lambda word: f"{first} has no {word}, but the {thing}")
    people = [first, second]

    # "Soon Tom gave Mia the rope(, and Mia gave Tom a red hat)." or the other way round
    say(". "), pick(THEN)
    giver = pick(people, NAMES, lambda word: f"{word} is not in this story")
    (taker,) = but(people, giver)

    def hand_over(giver, taker):
        pick(
            [taker],
            NAMES,
            lambda word: (
                f"{word} cannot give to {word}" if word == giver else f"{word} is not there"
            ),
        )
        say(" ")
        if giver == first:
            pick(["the "], ["a", "an"], lambda word: f"{giver} has only the {thing}")
            pick([thing], THINGS, lambda word: other_thing(word, giver))
            has[thing] = taker
        else:
            pick(ADJECTIVES, ["the"], lambda word: f"the {thing} is with {first}, not {giver}")
            say(" ")
            has[pick(but(THINGS, thing), [thing], taken)] = taker

    verb = pick(GIVES)
    hand_over(giver, taker)
    if pick(ENDS + [", and "]) == ", and ":
        pick([taker], NAMES, lambda word: f"{word} gives nothing, {taker} does")
        say(verb)
        hand_over(taker, giver)
        say(".")

    # "Tom stayed at the bridge. Later Mia took the rope to the well and left the rope there."
    say(" ")
    other = pick(people, NAMES, lambda word: f"{word} is not in this story")
    say(" stayed at the ")
    pick([place], PLACES + GOALS, lambda word: f"{other} is at the {place}, not the {word}")
    say(". "), pick(LATER)
    (mover,) = but(people, other)
    pick(
        [mover],
        NAMES,
        lambda word: (
            f"{word} stayed at the {place}" if word == other else f"{word} is not in this story"
        ),
    )
    mine = [t for t in has if has[t] == mover]
    moves = pick(
        CARRIES + GOES if mine else GOES, CARRIES, lambda word: f"{mover} has nothing to take"
    )
    carried = (
        pick(mine, THINGS, lambda word: other_thing(word, mover)) if moves in CARRIES else None
    )
    say(" to the ")
    goal = pick(GOALS, [place], lambda word: f"{mover} is already at the {word}")
    act = pick(LEAVES if carried else IDLE, LEAVES, lambda word: f"{mover} has taken nothing along")
    if act == " to ":
        pick(PURPOSES)
    elif act in LEAVES[1:]:
        pick(
            [carried], THINGS, lambda word: f"{mover} has taken the {carried} along, not the {word}"
        )
        if act == " and left the ":
            say(" there")
            has[carried] = goal
        else:
            say(" to ")
            has[carried] = pick(
                but(NAMES, *people), NAMES, lambda word: f"{word} is not at the {goal}"
            )
    say(".")
    return {"first": first, "second": second, "thing": thing, "place": place, "other": other}


def ask(rng: random.Random, parts: dict) -> dict:
    """Return one question about a story, and its answer: bare, short, in a whole sentence."""
    forms = QUESTIONS[int(rng.random() * len(QUESTIONS))]
    return {name: form.format(**parts) for name, form in forms.items()}


def stories(seed: int = 0) -> Iterator[dict]:
    """Stories without end; the same seed gives the same stories on every machine."""
    rng = random.Random(seed)
    while True:
        pen = Writer(rng)
        parts = tell(pen)
        yield {"text": "".join(pen.parts), "nats": math.log(pen.ways)} | ask(rng, parts)


def parse(text: str) -> Verdict:
    """Whether `text` is a story from here: if so its exact nats, else where and why not."""
    pen = Reader(text)
    try:
        tell(pen)
        if pen.position < len(text):
            raise Wrong(pen.position, "ungrammatical: the story is over, but the text continues")
    except Wrong as wrong:
        return Verdict(False, None, *wrong.args)
    return Verdict(True, math.log(pen.ways), len(text), "a story from this village")


def chats(number: int, seed: int, questions: int) -> list[dict]:
    """`number` stories, each with up to `questions` questions and their answers as one chat.

    Three in five answers are whole sentences, the others a few words; of the last one all forms are
    accepted. All names follow a space, as in every story: the model knows " Mia" and not "Mia".
    """
    rng, found = random.Random(seed), []
    for story in range(1, number + 1):
        pen = Writer(rng)
        parts = tell(pen)
        asked = {a["question"]: a for a in (ask(rng, parts) for _ in range(2 * questions))}
        turns = []
        for a in list(asked.values())[:questions]:
            answer = a["short" if rng.random() < 0.4 else "whole"]
            turns += [("user", a["question"]), ("assistant", answer)]
        turns[0] = ("user", "".join(pen.parts) + "\n" + turns[0][1])
        messages = [{"role": role, "content": text} for role, text in turns]
        accept = [a[form] for form in ("answer", "short", "whole")]
        found.append({"messages": messages, "accept": accept, "where": f"story {story}"})
    return found


def pairs(number: int, seed: int) -> list[dict]:
    """`number` questions about stories: the short answer is chosen, the whole sentence rejected."""
    found = []
    for story in islice(stories(seed), number):
        asked = {"role": "user", "content": f"{story['text']}\n{story['question']}"}
        found.append({"messages": [asked], "chosen": story["short"], "rejected": story["whole"]})
    return found
