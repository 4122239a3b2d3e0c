"""GSM8K (Cobbe et al. 2021): arithmetic in words, answered step by step.

As lm-evaluation-harness asks it: five solved problems of the training part come first.
``strict_match`` wants the number after ``####``, ``flexible_extract`` takes the last number.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from everlong.evaluation.answers import last_number, number
from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question

_FINAL = re.compile(r"#### (-?[\d.,]+)")


def problems(data: Data, part: str) -> list[Question]:
    """Problems of a part, ``train`` or ``test``; the reference is the number."""

    def parse(row: Mapping[str, str]) -> tuple[str, str, str]:
        final = _FINAL.search(row["answer"])
        value = number(final[1]) if final else None
        if value is None:
            raise ValueError("the answer ends with no number after ####")
        return row["question"], row["answer"], value

    return [
        Question(f"{part}:{n}", "", f"Question: {question}\nAnswer:", answer, value)
        for n, (question, answer, value) in enumerate(data.rows(f"gsm8k/{part}.jsonl", parse))
    ]


def judge(question: Question, text: str) -> Mapping[str, float]:
    """Whether the number is right, where it must be and wherever it is."""
    final = _FINAL.search(text)
    strict = number(final[1]) if final else None
    return {
        "strict_match": float(strict == question.reference),
        "flexible_extract": float(last_number(text) == question.reference),
    }


TASK = GenerationTask(
    "gsm8k",
    1,
    lambda data: problems(data, "test"),
    judge,
    max_tokens=256,
    stop=("Question:",),
    read_shots=lambda data: problems(data, "train"),
    shots=5,
    judged_by=("strict_match", "flexible_extract"),
)
