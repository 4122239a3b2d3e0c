"""Every task by suite: what ``everlong eval`` knows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from everlong.evaluation.task import Task
from everlong.evaluation.tasks.understanding import (
    arc_easy,
    boolq,
    copa,
    lambada,
    piqa,
    winogrande,
)

SUITES: Mapping[str, Sequence[Task[Any]]] = {
    "understanding": (
        boolq.TASK,
        piqa.TASK,
        copa.TASK,
        arc_easy.TASK,
        winogrande.TASK,
        lambada.TASK,
    ),
}
"""The tasks of each suite, in the order they are run."""
