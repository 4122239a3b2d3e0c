"""Puzzles with lettered options: ``context``, ``question``, ``options`` ("A) ..."), ``answer``."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, choice


def reader(file: str, group: Callable[[int], str]) -> Callable[[Data], list[Choice]]:
    """A reader of such a file; the likeliest option's own text is the answer.

    Args:
        file: inside the data folder.
        group: name of the part, by the number of options.
    """

    def parse(content: Any) -> list[Choice]:
        found = []
        for puzzle in content:
            asked = f"{puzzle['context']}\nQuestion: {puzzle['question']}\nAnswer:"
            texts = [re.sub(r"^[A-Z]\)\s*", "", option) for option in puzzle["options"]]
            gold = "ABCDEFGHIJ".index(puzzle["answer"])
            options = [(asked, f" {text}") for text in texts]
            found.append(choice(puzzle["id"], options, gold, group(len(texts))))
        return found

    return lambda data: data.document(file, parse)
