"""Texts with the language that each is in."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from everlong.errors import DataError, MissingDataError

_LONGEST = 64 << 20
"""Letters of a text; csv's own limit is 131,072."""


def by_language(paths: Sequence[Path]) -> dict[str, list[str]]:
    """The texts of some files by their language.

    Args:
        paths: ``.tsv`` files with a header, or ``.jsonl``; both may be compressed (``.gz``). Each
            line has ``lang`` and ``text``.

    Raises:
        MissingDataError: a file is not there.
        DataError: a line has no ``lang`` or ``text``.
    """
    found: dict[str, list[str]] = {}
    for path in paths:
        if not path.is_file():
            raise MissingDataError(f"{path} is not there")
        for number, line in enumerate(_lines(path), start=1):
            language, text = line.get("lang"), line.get("text")
            if not (isinstance(language, str) and isinstance(text, str)):
                raise DataError(
                    f"{path}, entry {number:,}: needs lang and text; it has "
                    f"{', '.join(map(str, line))}"
                )
            found.setdefault(language, []).append(text)
    return found


def _lines(path: Path) -> Iterator[Mapping[str, Any]]:
    opened = gzip.open if path.suffix == ".gz" else open
    try:
        with opened(path, "rt", encoding="utf-8", newline="") as file:
            if path.name.removesuffix(".gz").endswith(".tsv"):
                csv.field_size_limit(_LONGEST)
                yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
                return
            for line in file:
                value = json.loads(line)
                yield value if isinstance(value, Mapping) else {}
    except (OSError, EOFError, ValueError, RecursionError, csv.Error, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
