"""BABILong (Kuratov et al. 2024): stories of bAbI hidden in books, up to a million tokens.

The facts of a story of the tasks 1 to 5 stand in their order among sentences of the books; its last
question is asked. An answer is right when it names the right word and no other that such questions
have. Every story has a text of its own, as in the paper.
"""

from __future__ import annotations

import re

from everlong.evaluation.data import Data
from everlong.evaluation.haystack import LENGTHS, HaystackTask, Hidden
from everlong.evaluation.task import spread

_TASKS = range(1, 6)
_INSTRUCTION = (
    "The text below is from books. Facts about where people and things are, or who gave what to "
    "whom, are hidden in it. Answer the question at its end from these facts, in one word."
)


def _read(data: Data, seed: int) -> list[Hidden]:
    found: list[Hidden] = []
    for number in _TASKS:
        (name,) = data.names(f"babi/en/qa{number}_*_test.txt")
        stories: list[tuple[list[str], str, str]] = []
        facts: list[str] = []
        asked: tuple[list[str], str, str] | None = None
        for place, line in data.rows(name, lambda row: row.split(" ", 1)):
            if place == "1":
                stories += [asked] if asked else []
                facts, asked = [], None
            if "\t" in line:
                question, answer, *_ = line.split("\t")
                asked = (list(facts), question.strip(), answer.strip())
            else:
                facts.append(line.strip())
        stories += [asked] if asked else []
        answers = tuple(sorted({answer for _, _, answer in stories}))
        found += [
            Hidden(
                f"qa{number}:{n}",
                f"qa{number}",
                f"{seed}:qa{number}:{n}",
                tuple(own),
                question,
                (answer,),
                allowed=answers,
            )
            for n, (own, question, answer) in enumerate(stories)
        ]
    return spread(found)


def judge(asked: Hidden, text: str) -> float:
    """Whether the answer names the right word only."""
    words = set(re.findall(r"[a-z]+", text.lower()))
    return float({word for word in asked.allowed if word in words} == set(asked.target))


def _task(name: str, length: int) -> HaystackTask:
    return HaystackTask(f"babilong_{name}", 1, length, _read, judge, _INSTRUCTION, 16)


TASKS = tuple(_task(name, length) for name, length in LENGTHS.items())
