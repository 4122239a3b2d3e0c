"""JSON from files that a stranger may have written: bounded in bytes, depth and kind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from everlong.errors import CheckpointError, UnsupportedError

MAX_JSON_BYTES = 8 << 20
"""Of one file or header. Dense models of a thousand tensors need about 200 kB."""


def parse_json(data: bytes, what: str) -> Any:
    """Parse JSON, without repeated keys and without NaN.

    Args:
        data: UTF-8 text of at most ``MAX_JSON_BYTES``.
        what: whose text it is, for messages.

    Raises:
        CheckpointError: the text is not such JSON.
    """

    def no_constant(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    def no_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key appears twice")
        return found

    try:
        return json.loads(
            data.decode(), object_pairs_hook=no_repetition, parse_constant=no_constant
        )
    except RecursionError:
        raise CheckpointError(f"{what} is nested too deeply") from None
    except ValueError as error:  # also of UTF-8, and of numbers with thousands of digits
        raise CheckpointError(f"{what} is not valid JSON: {error}") from None


def read_json(path: Path) -> dict[str, Any]:
    """Read a file that holds one JSON object.

    Raises:
        CheckpointError: the file is missing, is not a regular file, or holds something else.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{path} is not a regular file")
    try:
        with path.open("rb") as file:
            data = file.read(MAX_JSON_BYTES + 1)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > MAX_JSON_BYTES:
        raise UnsupportedError(f"{path} is larger than {MAX_JSON_BYTES} bytes")
    found = parse_json(data, str(path))
    if not isinstance(found, dict):
        raise CheckpointError(f"{path} does not hold a JSON object")
    return found
