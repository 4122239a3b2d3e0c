"""SCAN (Lake and Baroni 2018): commands to sequences of actions, exactly.

Eight solved commands of the same split come first. The splits: the same kinds of commands
(simple), longer ones, and "jump" in commands after having been shown alone.
"""

from __future__ import annotations

from collections.abc import Mapping

from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question

_SPLITS = ("simple", "length", "addprim_jump")


def _row(line: str) -> tuple[str, str]:
    command, actions = line.removeprefix("IN: ").split(" OUT: ")
    return command.strip(), actions.strip()


def _read(data: Data, part: str) -> list[Question]:
    return [
        Question(f"{split}:{n}", split, f"IN: {command} OUT:", actions)
        for split in _SPLITS
        for n, (command, actions) in enumerate(data.rows(f"scan/{split}_{part}.txt", _row))
    ]


def _judge(question: Question, text: str) -> Mapping[str, float]:
    return {"accuracy": float(text.split() == question.target.split())}


TASK = GenerationTask(
    "scan",
    1,
    lambda data: _read(data, "test"),
    _judge,
    max_tokens=320,
    stop=("\n",),
    read_shots=lambda data: _read(data, "train"),
    shots=8,
)
