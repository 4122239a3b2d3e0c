"""CLUTRR (Sinha et al. 2019): how two people of a story are related, 2 to 10 steps apart.

The likeliest of all relations of the training part, which has 2 and 3 steps only; three solved
stories of it come first. Chance is one of the relations, about 6 %.
"""

from __future__ import annotations

import ast
import re
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, LikelihoodTask, accuracy, choice

_TRAIN = "clutrr/train_k2_3.csv"


def _row(row: Any) -> tuple[str, str]:
    first, second = ast.literal_eval(row["query"])
    story = re.sub(r"[\[\]]", "", row["story"]).strip()
    asked = f"{story}\nQuestion: What is {second} to {first}?\nAnswer: {second} is {first}'s"
    return asked, row["target"].strip()


def _choices(rows: list[tuple[str, str]], relations: list[str], group: str) -> list[Choice]:
    return [
        choice(
            f"{group}:{n}", [(asked, f" {r}") for r in relations], relations.index(target), group
        )
        for n, (asked, target) in enumerate(rows)
    ]


def _read(data: Data) -> list[Choice]:
    relations = sorted({target for _, target in data.rows(_TRAIN, _row)})
    found = []
    for name in data.names("clutrr/test_k*.csv"):
        steps = name.removesuffix(".csv").rsplit("k", 1)[1]
        rows = [row for row in data.rows(name, _row) if row[1] in relations]
        found += _choices(rows, relations, f"{int(steps):2} steps")
    return sorted(found, key=lambda c: c.group)


def _shots(data: Data) -> list[Choice]:
    rows = data.rows(_TRAIN, _row)
    return _choices(rows[:100], sorted({target for _, target in rows}), "train")


TASK = LikelihoodTask("clutrr", 1, _read, _shots, shots=3, judge=accuracy, judged_by=("accuracy",))
