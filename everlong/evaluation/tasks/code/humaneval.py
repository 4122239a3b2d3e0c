"""HumanEval (Chen et al. 2021): Python functions from their signature and description; pass@1."""

from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question
from everlong.evaluation.tasks.code.begun_functions import judge, question
from everlong.evaluation.tasks.code.execution import LANGUAGES


def _read(data: Data) -> list[Question]:
    return data.rows("humaneval/HumanEval.jsonl", lambda row: question(row, "python"))


TASK = GenerationTask(
    "humaneval",
    1,
    _read,
    judge,
    max_tokens=512,
    stop=LANGUAGES["python"].stop,
    judged_by=("pass@1",),
)
