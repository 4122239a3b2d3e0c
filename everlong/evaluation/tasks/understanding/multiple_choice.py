"""The simple format of multiple choice: ``query``, ``choices`` and ``gold`` in a line of JSON."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, choice


def reader(file: str, ending: str = "") -> Callable[[Data], list[Choice]]:
    """A reader of such a file.

    Args:
        file: inside the data folder.
        ending: of the context, after ``query``.
    """

    def read(data: Data) -> list[Choice]:
        rows = data.rows(file, _row)
        return [
            choice(str(number), [(query + ending, f" {text}") for text in choices], gold)
            for number, (query, choices, gold) in enumerate(rows)
        ]

    def _row(row: Any) -> tuple[str, list[str], int]:
        # A look at the parts here, where an error still knows its row.
        query, choices, gold = row["query"].rstrip(), row["choices"], row["gold"]
        choice("", [(query, f" {text}") for text in choices], gold)
        return query, choices, gold

    return read
