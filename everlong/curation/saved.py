"""What a run has saved in its folder, read again; what is damaged there is told in one line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from everlong.errors import DataError


def load_json(path: Path) -> Any:
    """What a file of JSON says.

    Raises:
        DataError: it cannot be read, or is no JSON.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read: {error}; bring it back, or name another folder for a new run"
        ) from None


def load_lines(folder: Path, *names: str) -> Iterator[dict[str, Any]]:
    """The mappings in a folder's files of JSON lines, in order.

    Args:
        folder: with files that end in ``.jsonl``; it may be missing.
        names: that each mapping has.

    Raises:
        DataError: a line is no such mapping.
    """
    for path in sorted(folder.glob("*.jsonl")):
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    plain = json.loads(line)
                except ValueError as error:
                    raise DataError(f"{path}, line {number}, is damaged: {error}") from None
                if not isinstance(plain, dict) or any(name not in plain for name in names):
                    raise DataError(f"{path}, line {number}, lacks {', '.join(names)}")
                yield plain
