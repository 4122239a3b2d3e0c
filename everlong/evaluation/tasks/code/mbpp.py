"""MBPP (Austin et al. 2021): little Python programs from a sentence and three tests.

The paper's prompt with the problems 2 to 4 solved before, and its test problems, 11 to 510, as
lm-evaluation-harness asks it; pass@1, the likeliest answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question
from everlong.evaluation.tasks.code.answers import program
from everlong.evaluation.tasks.code.execution import passes

_TESTED, _SHOWN = range(11, 511), range(2, 5)
_SHOWN_TESTS = 3


def _row(row: Mapping[str, Any]) -> tuple[int, Question]:
    number = int(row["task_id"].rsplit("/", 1)[1])
    asserts = [
        line.strip() for line in row["test"].split("\n") if line.strip().startswith("assert")
    ]
    shown = [line.replace("candidate(", f"{row['entry_point']}(") for line in asserts]
    prompt = (
        "You are an expert Python programmer, and here is your task: "
        f"{row['description'].strip()} Your code should pass these tests:\n\n"
        + "".join(f"{line}\n" for line in shown[:_SHOWN_TESTS])
        + "[BEGIN]\n"
    )
    head = row["prompt"].split('"""')[0].rstrip()
    target = f"{head.strip()}\n{(row['canonical_solution'] or '').rstrip()}\n[DONE]"
    return number, Question(str(number), "", prompt, target, "\n".join(shown))


def _read(data: Data) -> list[Question]:
    return [q for n, q in data.rows("mbpp/mbpp_python.jsonl", _row) if n in _TESTED]


def _shots(data: Data) -> list[Question]:
    return [q for n, q in data.rows("mbpp/mbpp_python.jsonl", _row) if n in _SHOWN]


def judge(question: Question, text: str) -> Mapping[str, float]:
    """Whether the program passes its tests."""
    return {"pass@1": float(passes("python", f"{program(text)}\n{question.reference}"))}


TASK = GenerationTask(
    "mbpp",
    1,
    _read,
    judge,
    max_tokens=256,
    stop=("[DONE]",),
    read_shots=_shots,
    shots=3,
    judged_by=("pass@1",),
)
