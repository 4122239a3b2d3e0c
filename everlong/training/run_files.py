"""The files of a run's folder, and those among them that grow line by line.

The ledger has a line for each step: which tokens of which documents it saw. A run that goes on from
a checkpoint drops the lines of steps behind it, so that both files tell of each step once.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from everlong.data.streams import Packed, Source
from everlong.errors import DataError
from everlong.files import atomic_writer

RECIPE = "recipe.yaml"
TOKENIZER = "tokenizer"
CHECKPOINTS = "checkpoints"
LEDGER = "ledger.jsonl"
METRICS = "metrics.jsonl"
OUTCOME = "outcome.json"


class StepLines:
    """A file of JSON lines, each with its ``step``.

    Args:
        path: of the file.
        steps: lines of so many steps stay; those behind them, and a line that a crash cut off, go.
    """

    def __init__(self, path: Path, steps: int) -> None:
        self._path = path
        if path.exists():
            with atomic_writer(path) as kept:
                for line in _whole_lines(path):
                    if json.loads(line)["step"] < steps:
                        kept.write(line)
        self._file = path.open("ab")

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append a line; it is in the file at once, and on the disk in a while."""
        self._file.write(json.dumps({"step": step, **values}).encode() + b"\n")
        self._file.flush()

    def close(self) -> None:
        """Close the file."""
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


def _whole_lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):
                yield line
