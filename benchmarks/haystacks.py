"""Long texts in which sentences are planted, with questions about them, in the manner of RULER.

A text (*haystack*) is a piece of a book; each of its questions is of one of six tasks of Hsieh et
al. (2024): single needles, one of many keys, several values of a key, variables that get each
other's value, the most frequent of some words, and facts about people, asked in other words than
they are told. All questions of a text are asked behind it, so that it is read once for all of them.
"""

from __future__ import annotations

import gzip
import random
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path

from everlong.errors import ConfigError

TASKS = ("single", "keys", "values", "variables", "frequent", "facts")
QUESTIONS = 13
"""Of each task about a text: more than a hundred about eight."""
INSTRUCTION = (
    "Here is a text. Numbers, variables, words that people said and facts about people are hidden "
    "in it. Remember them, you will be asked about one of them."
)
_KEYS = 40
_VALUES = 2
_CHAIN = 3
_TIMES = (6, 1, 1)
"""How often a person says each of some words."""
_LEAST_CHARACTERS, _MOST_CHARACTERS = 20, 400


@dataclass(frozen=True)
class Part:
    """What a model is given behind a text, and what it should say next."""

    text: str
    expected: tuple[str, ...]


@dataclass(frozen=True)
class Question:
    """What is asked behind a text."""

    task: str
    text: str
    opening: str
    """How the answer begins, which the model continues."""
    expected: tuple[str, ...]
    """What the answer has to have in it."""
    link: str = ""
    """How an answer goes on after a word, where each word is asked for by the one before."""
    depths: tuple[float, ...] = ()
    """Where in the text its sentences begin, from 0 to 1."""

    @property
    def rounds(self) -> int:
        """How often the model is asked."""
        return len(self.expected) if self.link else 1

    def part(self, turn: str, said: Sequence[str]) -> Part:
        """What the model is given next.

        Args:
            turn: what stands between a question and its answer.
            said: the words of earlier rounds.
        """
        links = (f" {word}.{self.link.format(word)}" for word in said)
        following = (self.expected[len(said)],) if self.link else self.expected
        return Part(self.text + turn + self.opening + "".join(links), following)

    def score(self, answer: str) -> float:
        """The share of what is expected that is in an answer."""
        found = answer.lower()
        return sum(one.lower() in found for one in self.expected) / len(self.expected)


@dataclass(frozen=True)
class Haystack:
    """A text, and what is asked about it."""

    text: str
    questions: tuple[Question, ...]


@dataclass(frozen=True)
class _Planted:
    """Sentences that keep their order in the text, and the question about them, if any is asked."""

    sentences: tuple[str, ...]
    question: Question | None = None


def haystack(
    book: str, tokens: int, count: Callable[[str], int], seed: str, each: int = QUESTIONS
) -> Haystack:
    """A piece of a book with sentences planted at all depths.

    Args:
        book: a text; it begins again where its end is reached.
        tokens: of the whole text; it has no more, and fewer by a sentence of the book at most.
        count: tokens of a sentence and the space before it.
        seed: where the book is opened, what is planted, and where.
        each: questions of each task, 13 at most.

    Raises:
        ConfigError: what is planted has no place in a text of so many tokens, or the book has no
            sentences.
    """
    draw = random.Random(f"haystack {seed}")
    groups = _planted(draw, each)
    items = [item for group in groups for item in group]
    depths = [depths for group in groups for depths in _depths(draw, group)]
    placed = sorted(
        (depth, number, sentence)
        for number, item in enumerate(items)
        for depth, sentence in zip(depths[number], item.sentences, strict=True)
    )
    hay = _some(book, tokens - sum(count(sentence) for _, _, sentence in placed), count, draw)

    parts: list[str] = []
    starts: list[list[int]] = [[] for _ in items]
    at = used = 0
    for depth, number, sentence in placed:
        before = hay[used : int(depth * (len(hay) + 1))]
        parts += [*before, sentence]
        used += len(before)
        at += sum(map(count, before))
        starts[number].append(at)
        at += count(sentence)
    parts += hay[used:]
    at += sum(map(count, hay[used:]))
    questions = (
        replace(item.question, depths=tuple(round(start / at, 4) for start in starts[number]))
        for number, item in enumerate(items)
        if item.question is not None
    )
    return Haystack(" ".join(parts), tuple(questions))


def read_book(path: Path) -> str:
    """The text of a book that is kept compressed."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        return file.read()


def sentences(book: str) -> list[str]:
    """The sentences of a text, but for those that are very short or long."""
    found = re.split(r"(?<=[.!?])\s", " ".join(book.split()))
    return [s for s in found if _LEAST_CHARACTERS <= len(s) <= _MOST_CHARACTERS]


def _some(book: str, room: int, count: Callable[[str], int], draw: random.Random) -> list[str]:
    """Sentences of a book that follow each other, as many as there is room for."""
    found = sentences(book)
    if not found:
        raise ConfigError("the book has no sentences; name another one")
    if room < 0:
        raise ConfigError(
            f"what is planted in a text takes {-room:,} tokens more than it has; ask longer ones"
        )
    some: list[str] = []
    start = draw.randrange(len(found))
    while (room := room - count(found[(start + len(some)) % len(found)])) >= 0:
        some.append(found[(start + len(some)) % len(found)])
    return some


def _depths(draw: random.Random, items: Sequence[_Planted]) -> Iterator[list[float]]:
    """Of each sentence; those of a task are spread evenly, and dealt out by chance."""
    total = sum(len(item.sentences) for item in items)
    places = [(place + draw.random()) / total for place in range(total)]
    draw.shuffle(places)
    dealt = iter(places)
    for item in items:
        yield sorted(islice(dealt, len(item.sentences)))


def _planted(draw: random.Random, each: int) -> list[list[_Planted]]:
    """What is planted for each task."""
    keys = draw.sample([f"{a} {b}" for a in _QUALITIES.split() for b in _THINGS.split()], _KEYS)
    numbers = (str(n) for n in draw.sample(range(10_000, 100_000), 1000))
    words = iter(draw.sample(_WORDS.split(), each * len(_TIMES)))
    variables = iter(draw.sample(_VARIABLES.split(), each * _CHAIN))
    # Nobody shares a name with another.
    first, last = (iter(draw.sample(names.split(), 3 * each)) for names in (_FIRST, _LAST))
    people = (f"{a} {b}" for a, b in zip(first, last, strict=True))
    return [
        [_single(subject, next(numbers)) for subject in draw.sample(_ALONE, each)],
        [_key(key, next(numbers), n < each) for n, key in enumerate(keys)],
        [_several(next(people), list(islice(numbers, _VALUES))) for _ in range(each)],
        [_chain(list(islice(variables, _CHAIN)), next(numbers)) for _ in range(each)],
        [_said(draw, next(people), list(islice(words, len(_TIMES)))) for _ in range(each)],
        [_fact(draw, next(people), kind) for kind in draw.sample(_FACTS, each)],
    ]


def _single(subject: str, value: str) -> _Planted:
    question = Question("single", f"What is the {subject}?", f"The {subject} is", (value,))
    return _Planted((f"The {subject} is {value}.",), question)


def _key(key: str, value: str, asked: bool) -> _Planted:
    said = f"The magic number of the {key} is"
    question = Question("keys", f"What is the magic number of the {key}?", said, (value,))
    return _Planted((f"{said} {value}.",), question if asked else None)


def _several(person: str, values: Sequence[str]) -> _Planted:
    question = Question(
        "values",
        f"Which {len(values)} lucky numbers does {person} have?",
        f"The {len(values)} lucky numbers of {person} are",
        tuple(values),
    )
    return _Planted(tuple(f"A lucky number of {person} is {v}." for v in values), question)


def _chain(names: Sequence[str], value: str) -> _Planted:
    told = tuple(f"VAR {a} -> VAR {b}." for a, b in pairwise([value, *names]))
    asked, opening = f"Which variables does {value} go to?", f"VAR {value} -> VAR"
    question = Question("variables", asked, opening, tuple(names), link=" VAR {} -> VAR")
    return _Planted(told, question)


def _said(draw: random.Random, person: str, words: Sequence[str]) -> _Planted:
    told = [
        f"{person} said the word {word}."
        for word, times in zip(words, _TIMES, strict=True)
        for _ in range(times)
    ]
    draw.shuffle(told)
    asked, opening = (
        f"Which word did {person} say most often?",
        f"Most often {person} said the word",
    )
    return _Planted(tuple(told), Question("frequent", asked, opening, (words[0],)))


def _fact(draw: random.Random, person: str, kind: tuple[str, str, str, str]) -> _Planted:
    told, asked, opening, values = kind
    value = draw.choice(values.split())
    question = Question("facts", asked.format(person), opening.format(person), (value,))
    return _Planted((told.format(person, value),), question)


_ALONE = (
    "code of the vault",
    "telephone number of the bakery",
    "price of the violin",
    "number of the opera ticket",
    "weight of the meteorite",
    "badge number of the inspector",
    "serial number of the telescope",
    "population of the island",
    "mileage of the caravan",
    "year of the patent of the umbrella",
    "number of bricks in the chimney",
    "licence plate of the fire engine",
    "combination of the locker",
    "distance to the observatory in miles",
    "number of seats in the stadium",
    "reward for the stolen painting",
)
"""Each is alone of its kind in a text."""
_QUALITIES = (
    "amber brave calm distant early fancy gentle hollow icy jolly keen lonely merry narrow odd "
    "plain quiet rusty silver tame useful violet warm young zealous ancient bitter crooked dusty "
    "eager frozen golden humble itchy lazy muddy noble proud royal sleepy"
)
_THINGS = (
    "anchor basket cradle drum engine feather garden hammer island jacket kettle lantern mirror "
    "napkin orchard pillow quilt ribbon saddle teapot umbrella vase wagon yacht zipper axe bucket "
    "compass dagger easel fiddle goblet harness inkwell jar kite ladle mug necklace oven"
)
_FIRST = (
    "Adela Bruno Celia Dario Edith Felix Greta Hugo Irma Jonas Klara Leon Mabel Nils Olga Pavel "
    "Rosa Stefan Thea Viktor Wanda Yusuf Zelda Anton Bertha Conrad Dagmar Emil Fanny Gustav Hedda "
    "Ivan Jutta Kaspar Linda Moritz Nora Oskar Paula Rudolf Selma Tobias"
)
_LAST = (
    "Abbot Brandt Corwin Dempsey Eklund Farrow Gantry Holm Ivers Jessup Kessler Lindqvist Marlow "
    "Novak Orton Pruett Quill Rasmus Sorley Tarrant Underhill Vance Whitlock Yardley Zimmer "
    "Archer Bellamy Carver Dunmore Ellison Fletcher Granger Hollis Ingram Jarvis Kimball Lawson "
    "Mercer Norwood Osgood Parrish Radcliff"
)
_WORDS = (
    "apple arrow badge beach bench berry blade board brick bridge brush butter button cabin "
    "candle cannon carpet castle chain chair cheese cherry circle clock cloud coffee copper "
    "cotton cradle crown desert diamond dragon eagle finger flower forest fountain ginger glass "
    "grape guitar helmet honey jungle ladder lemon letter marble market meadow metal mountain "
    "needle ocean olive orange paper pearl pepper pillow pocket potato rabbit rocket saddle "
    "salmon shadow silver spider sugar summer table temple thunder ticket tiger tobacco tomato "
    "tower tunnel turtle valley velvet village violin walnut water whistle window winter wolf"
)
_VARIABLES = (
    "TIGER LION BEAR WOLF FOX RABBIT HORSE DONKEY CAMEL GOAT SHEEP PIG COW DOG CAT MOUSE RAT "
    "SQUIRREL MONKEY ELEPHANT ZEBRA GIRAFFE HIPPO RHINO SNAKE LIZARD TURTLE FROG TOAD FISH SHARK "
    "WHALE DOLPHIN EAGLE HAWK OWL PARROT PIGEON SPARROW"
)
_FACTS = (
    (
        "{0} moved to {1} in the spring and opened a small bakery there.",
        "In which city does {0} sell bread?",
        "{0} sells bread in",
        "Lisbon Oslo Madrid Vienna Dublin Athens",
    ),
    (
        "Every evening after supper {0} played the {1} for the neighbours.",
        "Which instrument was {0} able to play?",
        "The instrument of {0} was the",
        "violin piano flute guitar trumpet harp",
    ),
    (
        "For many years {0} earned a living as a {1} in the harbour quarter.",
        "What was the profession of {0}?",
        "The profession of {0} was",
        "tailor barber butcher teacher painter doctor",
    ),
    (
        "{0} kept a tame {1} that slept beside the stove.",
        "What kind of animal was the pet of {0}?",
        "The pet of {0} was a",
        "parrot monkey rabbit goose lizard fox",
    ),
    (
        "The front door of the house where {0} lived had been painted {1}.",
        "Which colour was the entrance of the home of {0}?",
        "The door of {0} was",
        "green yellow purple orange blue red",
    ),
    (
        "{0} came into the world in a village in {1}, far from the sea.",
        "In which country was {0} born?",
        "{0} was born in",
        "Poland Brazil Canada Egypt Norway Peru",
    ),
    (
        "At breakfast {0} would never eat anything but {1}.",
        "What food did {0} have in the morning?",
        "In the morning {0} ate",
        "cheese porridge eggs apples fish rice",
    ),
    (
        "{0} set out for the coast on a {1} and was not seen again that week.",
        "On which day of the week did {0} leave?",
        "{0} left on a",
        "Monday Tuesday Wednesday Thursday Friday Saturday",
    ),
    (
        "At the age of sixty {0} began to learn {1} from an old sailor.",
        "Which language did {0} study?",
        "The language that {0} studied was",
        "Spanish Russian Arabic Japanese Swedish Turkish",
    ),
    (
        "{0} married {1}, a quiet botanist, in the old chapel.",
        "What was the first name of the person whom {0} wed?",
        "{0} was married to",
        "Martin Laura Peter Helen George Alice",
    ),
    (
        "The ring that {0} wore had been cut from a single piece of {1}.",
        "Which material was the jewel of {0} made of?",
        "The ring of {0} was made of",
        "silver copper ivory glass amber jade",
    ),
    (
        "When winter came, {0} always fell ill in the month of {1}.",
        "In which month was {0} usually sick?",
        "{0} was usually sick in",
        "January February March April October November",
    ),
    (
        "{0} won first prize at the county fair for growing the largest {1}.",
        "What did {0} grow that was so big?",
        "{0} grew a very big",
        "pumpkin cabbage onion melon turnip carrot",
    ),
    (
        "{0} crossed the great desert riding on a {1} borrowed from a merchant.",
        "Which animal carried {0} through the sand?",
        "{0} crossed the sand on a",
        "camel donkey horse mule elephant ox",
    ),
)
"""What is told of a person, what is asked, how the answer begins, and what it may be."""
