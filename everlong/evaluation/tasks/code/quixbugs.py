"""QuixBugs (Lin et al. 2017): repair of one-line bugs in 31 classic programs with tests.

The nine programs whose published tests are not data are left out, and so are the tests that the
corrected programs themselves do not end in ten seconds. ``sqrt`` is judged to the precision that
its second argument asks for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question
from everlong.evaluation.tasks.code.answers import program
from everlong.evaluation.tasks.code.execution import passes

_CHECK = """
import json as _json
import types as _types

def _plain(value):
    if isinstance(value, (tuple, list, set, range, map, filter, _types.GeneratorType)):
        return [_plain(item) for item in value]
    return value

def _equal(a, b, apart=1e-6):
    if isinstance(a, float) or isinstance(b, float):
        return abs(a - b) <= apart * max(1.0, abs(a), abs(b))
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(_equal, a, b))
    return a == b

for _arguments, _expected in _json.loads(%r):
    _arguments = _arguments if isinstance(_arguments, list) else [_arguments]
    _apart = _arguments[1] if %r == "sqrt" else 1e-6
    assert _equal(_plain(%s(*_arguments)), _expected, _apart)
"""


def _ends(name: str, arguments: Any) -> bool:
    """Whether the corrected program ends in time."""
    if name == "knapsack":  # a table of as many entries as the capacity, for each item
        return bool(arguments[0] <= 10_000)
    if name == "levenshtein":  # exponential in the lengths
        return bool(sum(map(len, arguments)) <= 14)
    return True


def _row(row: Mapping[str, Any]) -> Question | None:
    if not row["tests"]:
        return None
    prompt = (
        "This Python program has a bug:\n\n"
        f"```python\n{row['buggy'].strip()}\n```\n\nThe corrected program:\n\n```python\n"
    )
    tests = [test for test in row["tests"] if _ends(row["name"], test[0])]
    check = _CHECK % (json.dumps(tests), row["name"], row["name"])
    return Question(row["name"], "", prompt, row["correct"].strip(), check)


def _read(data: Data) -> list[Question]:
    return [q for q in data.rows("quixbugs/quixbugs.jsonl", _row) if q is not None]


def judge(question: Question, text: str) -> Mapping[str, float]:
    """Whether the repaired program passes the tests."""
    return {"pass@1": float(passes("python", f"{program(text)}\n{question.reference}"))}


TASK = GenerationTask(
    "quixbugs", 1, _read, judge, max_tokens=512, stop=("\n```",), judged_by=("pass@1",)
)
