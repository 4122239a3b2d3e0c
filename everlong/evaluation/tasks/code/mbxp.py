"""MBXP (Athiwaratkun et al. 2022): MBPP as functions to complete, in Python and other languages.

The languages whose tools are installed are asked; the others are named in a warning, not scored.
"""

from __future__ import annotations

import logging
import re

from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question
from everlong.evaluation.tasks.code.begun_functions import judge, question
from everlong.evaluation.tasks.code.execution import LANGUAGES, installed

logger = logging.getLogger(__name__)


def _read(data: Data) -> list[Question]:
    found: list[Question] = []
    left_out = []
    for name in data.names("mbpp/mb*p_*.jsonl"):
        language = re.sub(r".*_|\.jsonl", "", name)
        if not installed(language):
            left_out.append(language)
            continue
        found += data.rows(name, lambda row, own=language: question(row, own, own))  # type: ignore[misc]
    if left_out:
        logger.warning("mbxp: not asked, their tools are not here: %s", ", ".join(left_out))
    return found


TASK = GenerationTask(
    "mbxp",
    1,
    _read,
    judge,
    max_tokens=256,
    stop=tuple(dict.fromkeys(s for known in LANGUAGES.values() for s in known.stop[:2])),
    judged_by=("pass@1",),
)
