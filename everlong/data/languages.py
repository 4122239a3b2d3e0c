"""Texts with the language that each is in."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from everlong.errors import DataError, MissingDataError


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
                # Not the csv module, whose limit of 131,072 letters is one for the whole process.
                names = next(file, "").rstrip("\r\n").split("\t")
                for line in file:
                    if row := line.rstrip("\r\n"):
                        yield dict(zip(names, row.split("\t"), strict=False))
                return
            for line in file:
                value = json.loads(line)
                yield value if isinstance(value, Mapping) else {}
    except (OSError, EOFError, ValueError, RecursionError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from None
