"""The files of a run's folder, and those among them that grow line by line.

The ledger has a line for each step: which tokens of which documents it saw. A run that goes on from
a checkpoint drops the lines of steps behind it, so that both files tell of each step once.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from everlong.data.streams import Packed, Source
from everlong.errors import DataError

RECIPE = "recipe.yaml"
TOKENIZER = "tokenizer"
CHECKPOINTS = "checkpoints"
LEDGER = "ledger.jsonl"
METRICS = "metrics.jsonl"
INPUTS = "inputs.json"
OUTCOME = "outcome.json"


class StepLines:
    """A file of JSON lines, each with its ``step``.

    Args:
        path: of the file.
        steps: lines of so many steps stay; those behind them, and what a crash left unreadable,
            are cut off, for which a full disk needs no room.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self._file = path.open("ab")
        self._file.truncate(_length(path, steps))

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line; it is in the file at once, and on the disk in a while."""
        self._file.write(json.dumps({"step": step, **values}, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def sync(self) -> None:
        """See that all lines are on the disk."""
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()


def seen(sources: Sequence[Source], packed: Sequence[Packed]) -> list[list[list[Any]]]:
    """A step of the ledger: for each sequence its pieces as [source, document, start, end]."""
    return [
        [
            [sources[piece.source].name, piece.document, piece.start, piece.end]
            for piece in one.pieces
        ]
        for one in packed
    ]


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a ledger or of metrics.

    Raises:
        DataError: the file is not there.
    """
    if not path.exists():
        raise DataError(f"{path} is not there; has the run begun?")
    for line in _whole_lines(path):
        yield json.loads(line)


def outcome_of(run: Path) -> dict[str, Any] | None:
    """How a run ended that was not killed: the fields of ``Outcome``; None: it did not yet."""
    path = run / OUTCOME
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_bytes())
    return found


def inputs_of(run: Path) -> dict[str, str]:
    """Checksums of what a run began with, by what it is.

    Raises:
        DataError: they cannot be read.
    """
    path = run / INPUTS
    try:
        found: dict[str, str] = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read, which says what the run began with: {error}"
        ) from None
    return found


def _length(path: Path, steps: int) -> int:
    """Bytes of the lines of so many steps, as far as they can be read."""
    length = 0
    for line in _whole_lines(path):
        try:
            if json.loads(line)["step"] >= steps:
                break
        except (ValueError, KeyError, TypeError):
            break
        length += len(line)
    return length


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line
