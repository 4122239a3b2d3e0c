"""bAbI (Weston et al. 2015): questions about little stories, 20 kinds of reasoning.

Two solved stories of the same kind come before each question; an answer is right when its first
line is the wanted word, or the wanted list of words.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from everlong.evaluation.answers import first_line, normalised
from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question


def _questions(data: Data, part: str) -> list[Question]:
    found = []
    for name in data.names(f"babi/en/qa*_{part}.txt"):
        kind = re.search(r"/qa(\d+)_", name)
        if kind is None:
            continue
        rows = data.rows(name, lambda line: line.split(" ", 1))
        story: list[str] = []
        for count, (number, line) in enumerate(rows):
            if number == "1":
                story = []
            if "\t" not in line:
                story.append(line.strip())
                continue
            question, answer, *_ = line.split("\t")
            prompt = "\n".join([*story, f"Question: {question.strip()}", "Answer:"])
            found.append(Question(f"{kind[1]}:{count}", f"task {kind[1]:>2}", prompt, answer))
    return found


def _judge(question: Question, text: str) -> Mapping[str, float]:
    wanted = [normalised(word) for word in question.target.split(",")]
    said = [normalised(word) for word in re.split(r",| and ", first_line(text))]
    return {"accuracy": float(said == wanted)}


TASK = GenerationTask(
    "babi",
    1,
    lambda data: _questions(data, "test"),
    _judge,
    max_tokens=12,
    stop=("\n",),
    read_shots=lambda data: _questions(data, "train"),
    shots=2,
)
