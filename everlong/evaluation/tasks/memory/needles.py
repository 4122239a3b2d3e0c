"""Needles in the manner of RULER (Hsieh et al. 2024), many questions over each of eight long texts.

A text has them all, so that it is read once: numbers that are alone of their kind, numbers by their
keys (every other key is a wrong one near by), keys with four numbers, variables that get each
other's values, and lists of made-up words of which two come more often than the others. (RULER's
kind with questions about real texts is here ``babilong_*``.) The score is the share of what is
wanted among what is wanted and what is said: listing everything does not pay. The answer's first
words are given, as in RULER.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Callable
from itertools import islice, pairwise

from everlong.evaluation.data import Data
from everlong.evaluation.haystack import LENGTHS, HaystackTask, Hidden
from everlong.evaluation.task import spread

_INSTRUCTION = (
    "The text below is from books. Sentences with numbers, variables and coded words are hidden in "
    "it. Answer the question at its end from these sentences."
)
_TEXTS = 8
_EACH = 13
"""Questions of each kind about a text: more than a hundred of a kind over all texts."""
_SHORT, _SHORT_EACH = 8192, 4
"""Shorter texts have no room for so many needles; there are more such texts."""
_SEVERAL = 4
_LINKS = 4
_LIST = (("frequent", 2, 4), ("rare", 3, 1))
"""A list has two words that come four times and three that come once."""
_ALONE = (
    ("The code of the vault", "the vault's code"),
    ("The telephone of the bakery", "the bakery's telephone number"),
    ("The price of the violin", "the violin's price"),
    ("The ticket of the opera singer", "the opera singer's ticket"),
    ("The locker of the swimmer", "the swimmer's locker"),
    ("The plate of the fire engine", "the fire engine's plate"),
    ("The badge of the inspector", "the inspector's badge"),
    ("The account of the monastery", "the monastery's account"),
    ("The patent of the umbrella", "the umbrella's patent"),
    ("The mileage of the caravan", "the caravan's mileage"),
    ("The population of the island", "the island's population"),
    ("The weight of the meteorite", "the meteorite's weight"),
    ("The serial of the telescope", "the telescope's serial number"),
)
"""Each is alone of its kind in a text."""
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


def _reader(length: int) -> Callable[[Data, int], list[Hidden]]:
    """Reads the questions for texts of ``length`` tokens."""
    each = _EACH if length >= _SHORT else _SHORT_EACH
    texts = math.ceil(_TEXTS * _EACH / each)

    def read(data: Data, seed: int) -> list[Hidden]:
        return [q for n in range(texts) for q in _questions(f"{seed}.{n}", each)]

    return read


def _questions(name: str, each: int) -> list[Hidden]:
    """What is asked about one text, in an order that begins with one of each kind."""
    draw = random.Random(f"needles {name}")
    words = iter(made_up(draw, (3 + sum(count for _, count, _ in _LIST)) * each))
    numbers = iter(draw.sample(range(1_000_000, 10_000_000), 12 * each))
    told: list[tuple[str, ...]] = []  # sentences that keep their order among themselves
    asked: list[tuple[str, str, str, tuple[str, ...]]] = []
    for subject, short in draw.sample(_ALONE, each):
        value = str(next(numbers))
        told.append((f"{subject} is {value}.",))
        asked.append(("single", f"What is {short}?", f"{subject} is", (value,)))
    for key in islice(words, each):
        value = str(next(numbers))
        told.append((f"The secret number of {key} is {value}.",))
        opening = f"The secret number of {key} is"
        asked.append(("several keys", f"What is the secret number of {key}?", opening, (value,)))
    for key in islice(words, each):
        values = tuple(str(next(numbers)) for _ in range(_SEVERAL))
        told += [(f"One of the magic numbers of {key} is {value}.",) for value in values]
        opening = f"The magic numbers of {key} are"
        question = f"What are all the magic numbers of {key}?"
        asked.append(("several values", question, opening, values))
    variables = [f"X{n}" for n in draw.sample(range(10_000, 100_000), _LINKS * each)]
    for n in range(each):
        value = str(next(numbers))
        names = tuple(variables[n * _LINKS : (n + 1) * _LINKS])
        links = [f"VAR {names[0]} = {value}."]
        links += [f"VAR {b} = VAR {a}." for a, b in pairwise(names)]
        told.append(tuple(links))
        opening = f"The variables that have the value {value} are"
        asked.append(("variables", f"Which variables have the value {value}?", opening, names))
    for owner in islice(words, each):
        lists = {kind: tuple(islice(words, count)) for kind, count, _ in _LIST}
        for kind, _, times in _LIST:
            told += [(f"A coded word of {owner}: {word}.",) for word in lists[kind]] * times
        most = len(lists["frequent"])
        question = f"Which {most} coded words of {owner} come most often?"
        opening = f"The {most} coded words of {owner} that come most often are"
        asked.append(("frequent words", question, opening, lists["frequent"]))
    hidden = _mixed(draw, told)
    return spread(
        [
            Hidden(f"{name}:{n}", kind, f"needles {name}", hidden, question, target, opening)
            for n, (kind, question, opening, target) in enumerate(asked)
        ]
    )


def made_up(draw: random.Random, count: int) -> list[str]:
    """Different words of eight letters that mean nothing."""
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draw.choice(_CONSONANTS) + draw.choice(_VOWELS) for _ in range(4))] = None
    return list(found)


def _mixed(draw: random.Random, told: list[tuple[str, ...]]) -> tuple[str, ...]:
    """All sentences in one order, in which those of a tuple keep theirs."""
    placed = [
        (place, n, sentence)
        for n, group in enumerate(told)
        for place, sentence in zip(sorted(draw.random() for _ in group), group, strict=True)
    ]
    return tuple(sentence for _, _, sentence in sorted(placed, key=lambda p: p[:2]))


def judge(asked: Hidden, text: str) -> float:
    """Right words over all that are right or said."""
    if asked.group == "frequent words":
        said = set(re.findall(r"\b(?:[b-z][aeiou]){4}\b", text.lower()))
    elif asked.group == "variables":
        said = set(re.findall(r"\bX\d+\b", text))
    else:
        said = set(re.findall(r"\b\d{7}\b", text))
    wanted = set(asked.target)
    return len(said & wanted) / len(said | wanted)


TASKS = tuple(
    HaystackTask(f"needles_{name}", 2, length, _reader(length), judge, _INSTRUCTION, 64)
    for name, length in LENGTHS.items()
)
