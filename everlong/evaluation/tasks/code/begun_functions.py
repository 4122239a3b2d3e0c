"""Functions that are begun in the prompt: the form of mxeval and HumanEval."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from everlong.evaluation.generation import Question
from everlong.evaluation.tasks.code.answers import completed
from everlong.evaluation.tasks.code.execution import passes


def question(row: Mapping[str, Any], language: str, group: str = "") -> Question:
    """A question of such a row; the reference has what the judge needs."""
    test = row["test"]
    if language == "python":
        test = f"{test}\ncheck({row['entry_point']})"
    reference = {"language": language, "test": test, "entry_point": row["entry_point"]}
    # Python's begin with empty lines that a model takes for the text's end.
    prompt = row["prompt"].lstrip("\n") if language == "python" else row["prompt"]
    target = row.get("canonical_solution") or ""
    return Question(f"{language}:{row['task_id']}", group, prompt, target, reference)


def judge(asked: Question, text: str) -> Mapping[str, float]:
    """Whether the function passes its tests."""
    reference = asked.reference
    source = completed(asked.prompt, text, reference["entry_point"])
    return {"pass@1": float(passes(reference["language"], f"{source}\n{reference['test']}"))}
