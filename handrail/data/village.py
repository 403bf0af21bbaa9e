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


def run(pen, *parts):
    """Say the texts among `parts`, pick one of each list; return what was picked last."""
    for part in parts:
        if isinstance(part, str):
            pen.say(part)
        else:
            picked = pen.pick(part)
    return picked


def not_here(word):
    return f"{word} is not in this story"


def elsewhere(has, thing, person):
    """Return why a person cannot give or take a thing; `has` is {thing: who or where}."""
    if thing not in has:
        return f"there is no {thing} in this story"
    return f"the {thing} is with {has[thing]}, not {person}"


def tell(pen) -> dict:
    """Tell one story; return who and what played which part in it, for `ask`."""
    first = run(pen, "One ", WEATHER, " ", TIMES, ", ", NAMES)
    thing = run(pen, FINDS, ADJECTIVES, " ", THINGS)
    second, place = meet(pen, first, thing)
    has, people = {thing: first}, [first, second]
    trade(pen, has, people, thing)
    other = part_ways(pen, has, people, place)
    return {"first": first, "second": second, "thing": thing, "place": place, "other": other}


def meet(pen, first, thing):
    """Tom took the rope to the bridge and met Mia, who liked the rope."""

    def not_his(word):
        return f"{first} has no {word}, but the {thing}"

    pen.say(". ")
    pen.pick([first], NAMES, not_here)
    pen.pick(CARRIES)
    pen.pick([thing], THINGS, not_his)
    place = run(pen, " to the ", PLACES)
    pen.pick(MEETS)
    second = pen.pick(but(NAMES, first), NAMES, lambda word: f"{word} cannot meet {word}")
    pen.pick(WANTS)
    pen.pick([thing], THINGS, not_his)
    return second, place


def trade(pen, has, people, thing):
    """Soon Tom gave Mia the rope(, and Mia gave Tom a red hat). Or the other way round."""
    run(pen, ". ", THEN)
    giver = pen.pick(people, NAMES, not_here)
    (taker,) = but(people, giver)
    verb = pen.pick(GIVES)
    hand_over(pen, has, thing, giver, taker, first=people[0])
    if pen.pick(ENDS + [", and "]) == ", and ":
        pen.pick([taker], NAMES, lambda word: f"{word} gives nothing, {taker} does")
        pen.say(verb)
        hand_over(pen, has, thing, taker, giver, first=people[0])
        pen.say(".")


def hand_over(pen, has, thing, giver, taker, first):
    """... Mia the rope, or ... Tom a red hat: only who came first has a thing that is known."""

    def nobody(word):
        return f"{word} cannot give to {word}" if word == giver else f"{word} is not there"

    pen.pick([taker], NAMES, nobody)
    pen.say(" ")
    if giver == first:
        pen.pick(["the "], ["a", "an"], lambda _: f"{giver} has only the {thing}")
        pen.pick([thing], THINGS, lambda word: elsewhere(has, word, giver))
        has[thing] = taker
    else:
        pen.pick(ADJECTIVES, ["the"], lambda _: f"the {thing} is with {first}, not {giver}")
        pen.say(" ")
        own = pen.pick(but(THINGS, thing), [thing], lambda word: f"the {word} is with {has[word]}")
        has[own] = taker


def part_ways(pen, has, people, place):
    """Tom stayed at the bridge. Later Mia ... Return who stayed."""
    pen.say(" ")
    other = pen.pick(people, NAMES, not_here)
    (mover,) = but(people, other)

    def not_moving(word):
        return f"{word} stayed at the {place}" if word == other else not_here(word)

    pen.say(" stayed at the ")
    pen.pick([place], PLACES + GOALS, lambda word: f"{other} is at the {place}, not the {word}")
    run(pen, ". ", LATER)
    pen.pick([mover], NAMES, not_moving)
    leave(pen, has, people, place, mover)
    return other


def leave(pen, has, people, place, mover):
    """... took the rope to the well and left the rope there. Or without a thing: ... to rest."""
    mine = [thing for thing in has if has[thing] == mover]
    ways = CARRIES + GOES if mine else GOES
    way, carried = pen.pick(ways, CARRIES, lambda _: f"{mover} has nothing to take"), None
    if way in CARRIES:
        carried = pen.pick(mine, THINGS, lambda word: elsewhere(has, word, mover))
    pen.say(" to the ")
    goal = pen.pick(GOALS, [place], lambda word: f"{mover} is already at the {word}")
    ends = LEAVES if carried else IDLE
    act = pen.pick(ends, LEAVES, lambda _: f"{mover} has taken nothing along")
    if act == " to ":
        pen.pick(PURPOSES)
    elif act in LEAVES[1:]:
        along = f"{mover} has taken the {carried} along"
        pen.pick([carried], THINGS, lambda word: f"{along}, not the {word}")
        if act == " and left the ":
            pen.say(" there")
            has[carried] = goal
        else:
            pen.say(" to ")
            others = but(NAMES, *people)
            has[carried] = pen.pick(others, NAMES, lambda word: f"{word} is not at the {goal}")
    pen.say(".")


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
