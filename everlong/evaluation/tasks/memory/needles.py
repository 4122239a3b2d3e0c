"""Needles in the manner of RULER (Hsieh et al. 2024), many questions over one long text.

The text has them all, so that it is read once: numbers by their keys (every other key is a wrong
one near by), keys with four numbers, variables that get each other's values, and made-up words of
which three come more often than the others. The score is the share of what is wanted among what is
wanted and what is said: listing everything does not pay. The answer's first words are given, as in
RULER.
"""

from __future__ import annotations

import random
import re
from itertools import pairwise

from everlong.evaluation.data import Data
from everlong.evaluation.haystack import LENGTHS, HaystackTask, Hidden

_INSTRUCTION = (
    "The text below is from books. Sentences about secret numbers, variables and coded words are "
    "hidden in it. Answer the question at its end from these sentences."
)
_KEYS = 12
_SEVERAL = 4
_CHAINS, _LINKS = 4, 4
_WORDS, _FREQUENT = 8, 3
_CONSONANTS, _VOWELS = "bdfgklmnprstvz", "aeiou"


def _read(data: Data, seed: int) -> list[Hidden]:
    draw = random.Random(f"needles {seed}")
    words = _made_up(draw, 2 * _KEYS + _WORDS)
    keys, several, coded = words[:_KEYS], words[_KEYS : 2 * _KEYS], words[2 * _KEYS :]
    numbers = iter(draw.sample(range(1_000_000, 10_000_000), 200))
    told: list[tuple[str, ...]] = []  # sentences that keep their order among themselves
    asked: list[tuple[str, str, str, tuple[str, ...]]] = []
    for key in keys:
        value = str(next(numbers))
        told.append((f"The secret number of {key} is {value}.",))
        opening = f"The secret number of {key} is"
        asked.append(("single", f"What is the secret number of {key}?", opening, (value,)))
    for key in several[:3]:
        values = tuple(str(next(numbers)) for _ in range(_SEVERAL))
        told += [(f"One of the magic numbers of {key} is {value}.",) for value in values]
        opening = f"The magic numbers of {key} are"
        question = f"What are all the magic numbers of {key}?"
        asked.append(("several values", question, opening, values))
    for _ in range(_CHAINS):
        value = str(next(numbers))
        names = tuple(f"X{next(numbers) % 100_000}" for _ in range(_LINKS))
        links = [f"VAR {names[0]} = {value}."]
        links += [f"VAR {b} = VAR {a}." for a, b in pairwise(names)]
        told.append(tuple(links))
        opening = f"The variables that have the value {value} are"
        asked.append(("variables", f"Which variables have the value {value}?", opening, names))
    frequent, rare = coded[:_FREQUENT], coded[_FREQUENT:]
    for word, times in [(w, 6) for w in frequent] + [(w, 2) for w in rare]:
        told += [(f"The coded word is {word}.",)] * times
    asked.append(
        (
            "frequent words",
            f"Which {_FREQUENT} coded words come most often?",
            f"The {_FREQUENT} coded words that come most often are",
            tuple(frequent),
        )
    )
    hidden = _mixed(draw, told)
    return [
        Hidden(f"{seed}:{n}", kind, f"needles {seed}", hidden, question, target, opening)
        for n, (kind, question, opening, target) in enumerate(asked)
    ]


def _made_up(draw: random.Random, count: int) -> list[str]:
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
    HaystackTask(f"needles_{name}", 1, length, _read, judge, _INSTRUCTION, 64)
    for name, length in LENGTHS.items()
    if name != "1k"  # the needles alone are longer
)
