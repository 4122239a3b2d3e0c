"""What a run tells of each step: the ledger, the metrics, and event files for tensorboard.

All go on where a checkpoint was; what they say of steps behind it is taken back.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from everlong.data.streams import Packed, Source
from everlong.training.event_log import EventLog
from everlong.training.run_files import LEDGER, METRICS, StepLines, seen


class Journal:
    """The files of a run that grow with its steps.

    Args:
        run: its folder.
        steps: that are done.
        sources: that the ledger names.
        tensorboard: whether there are event files, too.
    """

    def __init__(self, run: Path, steps: int, sources: Sequence[Source], tensorboard: bool) -> None:
        self._sources = sources
        with ExitStack() as opened:
            self._ledger = opened.enter_context(StepLines(run / LEDGER, steps))
            self._metrics = opened.enter_context(StepLines(run / METRICS, steps))
            self._events = EventLog(run, steps) if tensorboard else None
            if self._events is not None:
                opened.callback(self._events.close)
            self._opened = opened.pop_all()

    def write(self, step: int, packed: Sequence[Packed], figures: Mapping[str, Any]) -> None:
        """Append a step.

        Args:
            step: its number.
            packed: what it read.
            figures: numbers, and mappings of names to numbers; those that are None or not finite
                are null in the metrics, which are JSON.
        """
        self._ledger.write(step, {"sequences": seen(self._sources, packed)})
        self._metrics.write(step, {name: _finite(value) for name, value in figures.items()})
        if self._events is not None:
            self._events.write(step, figures)

    def sync(self) -> None:
        """See that all lines are on the disk, as a checkpoint that counts on them will be."""
        self._ledger.sync()
        self._metrics.sync()
        if self._events is not None:
            self._events.sync()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._opened.close()


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
