"""MGSM (Shi et al. 2022): 250 problems of GSM8K in 11 languages.

The problem is asked in its language after eight solved problems of GSM8K's training part in
English; the last number of the answer counts, in the digits of any script.
"""

from __future__ import annotations

from collections.abc import Mapping

from everlong.evaluation.answers import last_number, number
from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question
from everlong.evaluation.tasks.reasoning.gsm8k import problems


def _row(row: list[str]) -> tuple[str, str]:
    question, answer = row
    value = number(answer)
    if value is None:
        raise ValueError(f"{answer!r} is no number")
    return question, value


def _read(data: Data) -> list[Question]:
    found = []
    for name in data.names("mgsm/mgsm_*.tsv"):
        language = name.removesuffix(".tsv").rsplit("_", 1)[1]
        for n, (question, value) in enumerate(data.rows(name, _row, header=False)):
            prompt = f"Question: {question}\nAnswer:"
            found.append(Question(f"{language}:{n}", language, prompt, value))
    return found


def _judge(question: Question, text: str) -> Mapping[str, float]:
    return {"accuracy": float(last_number(text) == question.target)}


TASK = GenerationTask(
    "mgsm",
    1,
    _read,
    _judge,
    max_tokens=256,
    stop=("Question:",),
    read_shots=lambda data: problems(data, "train"),
    shots=8,
)
