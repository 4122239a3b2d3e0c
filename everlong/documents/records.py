"""Records with a field for their text: lines of JSON, and rows of Parquet."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from everlong.documents.extracted import (
    Alive,
    Extracted,
    Limits,
    Plain,
    Refused,
    Waiting,
    clean,
    language_code,
    nobody,
)
from everlong.errors import DataError, MissingExtraError

_KEPT_LETTERS = 2000
"""Of a value of metadata; longer ones are texts of their own and would be carried to no end."""
_KEPT_NUMBER = 1 << 64
_NESTED = "metadata"
"""A field whose own fields count as the record's, as in the formats of Dolma and datatrove."""
_BATCH_BYTES = 32 << 20
_BATCH_ROWS = 1024
_SKIPPED_BYTES = 1 << 20

_TITLE, _LANGUAGES, _LICENCES = "title", ("language", "lang"), ("license", "licence")
"""Fields that a record may have; other plain ones are metadata under their own names."""


def read_json_lines(
    file: BinaryIO,
    limits: Limits,
    field: str,
    first: int = 0,
    size: int | None = None,
    alive: Alive = nobody,
) -> Iterator[Waiting | Refused]:
    """The texts of records, one a line. Places are numbers of lines, from 1.

    Args:
        file: at the beginning of a line; buffered.
        limits: of a line.
        field: with the text: a string, or a list of strings, which are its lines.
        first: lines before.
        size: bytes to read; None: up to the end.
        alive: told at every empty line, and while a line is passed over that is too long.
    """
    number, read = first, 0
    while size is None or read < size:
        number += 1
        try:
            line = file.readline(limits.record_bytes + 1)
            too_long = len(line) > limits.record_bytes
            length = len(line) + (_skip_line(file, line, alive) if too_long else 0)
        except (DataError, OSError) as error:
            yield Refused(str(number), f"the file cannot be read on: {error}")
            return
        if not line:
            return
        read += length
        place = str(number)
        if too_long:
            reason = f"a line of {length:,} bytes; record_bytes allows {limits.record_bytes:,}"
            yield Refused(place, reason)
        elif not line.isspace():
            yield Waiting(place, partial(_from_line, place, line, limits, field))
        else:
            alive()


def read_parquet(
    path: Path, limits: Limits, field: str, first: int = 0, groups: range | None = None
) -> Iterator[Waiting | Refused]:
    """The texts of rows. Places are numbers of rows, from 1.

    Args:
        path: the file.
        limits: of a text.
        field: the column with the text: strings, or lists of them, which are its lines.
        first: rows before.
        groups: row groups to read; None: all.

    Raises:
        DataError: it is no Parquet file, or has no such column.
    """
    try:
        import pyarrow as arrow  # type: ignore[import-untyped]
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError("pyarrow", "curate") from None
    number = first
    try:
        with parquet.ParquetFile(path, memory_map=False) as file:
            columns = _columns(file.schema_arrow, field)
            for group in range(file.num_row_groups) if groups is None else groups:
                about = file.metadata.row_group(group)
                rows = _BATCH_BYTES * max(1, about.num_rows) // max(1, about.total_byte_size)
                for batch in file.iter_batches(
                    batch_size=min(_BATCH_ROWS, max(1, rows)),
                    row_groups=[group],
                    columns=columns,
                    use_threads=False,
                ):
                    yield from _rows(number, batch, limits, field)
                    number += batch.num_rows
    except (arrow.ArrowException, OSError, ValueError) as error:
        if number == first:
            raise DataError(f"not a Parquet file that can be read: {error}") from None
        yield Refused(str(number + 1), f"the file cannot be read on: {error}")


def _skip_line(file: BinaryIO, line: bytes, alive: Alive) -> int:
    """Read to the end of a line, piece by piece; how many bytes that were."""
    skipped = 0
    while line and not line.endswith(b"\n"):
        alive()
        line = file.readline(_SKIPPED_BYTES)
        skipped += len(line)
    return skipped


def _rows(before: int, batch: Any, limits: Limits, field: str) -> Iterator[Waiting | Refused]:
    records: list[Mapping[str, Any]] | None = None
    if batch.nbytes <= 2 * _BATCH_BYTES:
        with suppress(ValueError):  # a text that is no UTF-8; which one, shows row by row
            records = batch.to_pylist()
    for row in range(batch.num_rows):
        place = str(before + row + 1)
        if records is not None:
            yield Waiting(place, partial(_extracted, place, records[row], limits, field))
        else:
            yield Waiting(place, partial(_from_row, place, batch.slice(row, 1), limits, field))


def _from_line(place: str, line: bytes, limits: Limits, field: str) -> Extracted:
    try:
        record = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"not JSON in UTF-8: {error}") from None
    if not isinstance(record, dict):
        raise DataError(f"must be an object, not {type(record).__name__}")
    return _extracted(place, record, limits, field)


def _from_row(place: str, row: Any, limits: Limits, field: str) -> Extracted:
    if row.nbytes > limits.record_bytes:
        raise DataError(
            f"a row of {row.nbytes:,} bytes; record_bytes allows {limits.record_bytes:,}"
        )
    try:
        record = row.to_pylist()[0]
    except ValueError as error:
        raise DataError(f"not text in UTF-8: {error}") from None
    return _extracted(place, record, limits, field)


def _extracted(place: str, record: Mapping[str, Any], limits: Limits, field: str) -> Extracted:
    text = _text(record.get(field))
    if text is None and field in record:
        kind = "null" if record[field] is None else type(record[field]).__name__
        raise DataError(f"has no text in {field} but {kind}; give a string, or a list of strings")
    if text is None:
        raise DataError(f"has no text in {field}; its fields: {clean(', '.join(record))[:200]}")
    text = clean(text)
    if not text or text.isspace():
        raise DataError("its text is empty")
    limits.check_letters(len(text))
    nested = record.get(_NESTED)
    told = {**nested, **record} if isinstance(nested, dict) else record
    metadata: dict[str, Plain] = {}
    for name, value in told.items():
        if name == field:
            continue
        if isinstance(value, str):
            if len(value) <= _KEPT_LETTERS:
                metadata[clean(name)] = clean(value)
        elif isinstance(value, (int, float)) and abs(value) < _KEPT_NUMBER:  # and no NaN
            metadata[clean(name)] = value
    title, language, licence = (
        _taken(metadata, names) for names in ((_TITLE,), _LANGUAGES, _LICENCES)
    )
    return Extracted(place, text, title, language_code(language), licence, metadata)


def _taken(metadata: dict[str, Plain], names: Sequence[str]) -> str | None:
    for name in names:
        if isinstance(value := metadata.get(name), str) and value:
            del metadata[name]
            return value
    return None


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(one, str) for one in value):
        return "\n".join(value)
    return None


def _columns(schema: Any, field: str) -> list[str]:
    """The column of text, and those that are plain.

    Raises:
        DataError: there is none of text.
    """
    from pyarrow import types

    def is_plain(kind: Any) -> bool:
        tests = (types.is_string, types.is_large_string, types.is_integer, types.is_floating)
        return any(test(kind) for test in (*tests, types.is_boolean))

    if field not in schema.names:
        raise DataError(f"has no column {field}; its columns: {', '.join(schema.names)[:200]}")
    return [one.name for one in schema if one.name in (field, _NESTED) or is_plain(one.type)]
