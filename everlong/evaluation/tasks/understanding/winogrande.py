"""WinoGrande (Sakaguchi et al. 2020): whom a sentence speaks of.

The sentence's end is judged after either name ("partial scoring", Trinh and Le 2018).
"""

from __future__ import annotations

from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, LikelihoodTask, choice


def _read(data: Data) -> list[Choice]:
    rows = data.rows("lm_eval/winogrande.jsonl", _row)
    return [choice(str(number), options, gold) for number, (options, gold) in enumerate(rows)]


def _row(row: Any) -> tuple[list[tuple[str, str]], int]:
    options = [(context, f" {row['continuation']}") for context in row["context_options"]]
    return options, choice("", options, row["gold"]).gold


TASK = LikelihoodTask("winogrande", 1, _read)
