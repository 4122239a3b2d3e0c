"""Figures of a run for tensorboard, beside ``metrics.jsonl``, which has the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from everlong.errors import MissingExtraError

FOLDER = "tensorboard"


class EventLog:
    """Event files that ``tensorboard --logdir RUN`` shows.

    Args:
        run: folder of the run.
        steps: that are done; what was written of later ones, before the run stopped, is hidden.

    Raises:
        MissingExtraError: tensorboard is not installed.
    """

    def __init__(self, run: Path, steps: int) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtraError("tensorboard", "train") from None
        self._writer: Any = SummaryWriter(str(run / FOLDER), purge_step=steps)

    def write(self, step: int, figures: Mapping[str, Any]) -> None:
        """Append the figures of a step; those of held-out corpora are under their names."""
        for name, value in figures.items():
            if isinstance(value, Mapping):
                for corpus, loss in value.items():
                    self._writer.add_scalar(f"{name}/{corpus.replace(' ', '_')}", loss, step)
            else:
                self._writer.add_scalar(name, value, step)

    def sync(self) -> None:
        """See that nothing is only in memory."""
        self._writer.flush()

    def close(self) -> None:
        """Write what is left."""
        self._writer.close()
