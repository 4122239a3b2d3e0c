"""LAMBADA (Paperno et al. 2016), OpenAI's version: the last word of a passage."""

from __future__ import annotations

from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, LikelihoodTask, accuracy, choice


def _read(data: Data) -> list[Choice]:
    rows = data.rows("lm_eval/lambada_openai.jsonl", _row)
    return [choice(str(number), [row], 0) for number, row in enumerate(rows)]


def _row(row: Any) -> tuple[str, str]:
    return choice("", [(row["context"], f" {row['continuation']}")], 0).options[0]


TASK = LikelihoodTask("lambada", 1, _read, judge=accuracy, judged_by=("accuracy",))
