"""Parts of large files that can be read one without the other, by different processes.

Lines of JSON that are not packed are parted at ends of lines, Parquet at its row groups. All other
files are one part: they are one text, or have to be unpacked from their beginning. A file is packed
if it begins so, whatever its name.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from everlong.errors import ConfigError, MissingExtraError

JSON_LINES = frozenset({".jsonl", ".ndjson"})
PARQUET = ".parquet"
GZIP = b"\x1f\x8b"
"""How a packed file begins."""
_READ_BYTES = 1 << 20


@dataclass(frozen=True)
class Part:
    """Some of a file, or all of it."""

    path: Path
    bytes: int
    """That it has on disk."""
    start: int = 0
    end: int | None = None
    """Of lines of JSON the bytes, of Parquet the row groups that it goes from and to; None: to the
    end of the file."""
    first: int = 0
    """Lines or rows of the file before it, so that places are the same in whatever parts."""


def parts(path: Path, bytes_each: int) -> list[Part]:
    """Divide a file.

    Args:
        path: the file. To know the numbers of its lines, large files of JSON are read.
        bytes_each: of a part, about: parts end with lines and row groups.

    Raises:
        ConfigError: ``bytes_each`` is not 1 or more.
        OSError: the file cannot be read.
    """
    if bytes_each < 1:
        raise ConfigError(f"bytes_each is {bytes_each}; it must be 1 or more")
    size = path.stat().st_size
    if size > bytes_each and path.suffix.lower() in JSON_LINES and not _is_packed(path):
        return list(_of_lines(path, bytes_each))
    if size > bytes_each and path.suffix.lower() == PARQUET:
        return list(_of_row_groups(path, size, bytes_each))
    return [Part(path, size)]


def _is_packed(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(GZIP)) == GZIP


def _of_lines(path: Path, bytes_each: int) -> Iterator[Part]:
    start = before = 0  # of the part: its first byte, and lines before it
    lines = offset = 0  # of the block
    with path.open("rb", buffering=0) as file:
        while block := file.read(_READ_BYTES):
            counted = 0
            while (wanted := start + bytes_each - offset) <= len(block):
                cut = block.find(b"\n", max(wanted - 1, counted))
                if cut < 0:
                    break
                lines += block.count(b"\n", counted, cut + 1)
                counted = cut + 1
                yield Part(path, offset + counted - start, start, offset + counted, before)
                start, before = offset + counted, lines
            lines += block.count(b"\n", counted)
            offset += len(block)
    if start < offset:
        yield Part(path, offset - start, start, offset, before)


def _of_row_groups(path: Path, size: int, bytes_each: int) -> Iterator[Part]:
    try:
        import pyarrow as arrow  # type: ignore[import-untyped]
        import pyarrow.parquet as parquet  # type: ignore[import-untyped]
    except ImportError:
        raise MissingExtraError("pyarrow", "curate") from None
    try:
        about = parquet.read_metadata(path)
    except (arrow.ArrowException, OSError, ValueError):
        yield Part(path, size)  # reading it will say what is wrong
        return
    start = before = rows = packed = 0
    for number in range(about.num_row_groups):
        group = about.row_group(number)
        rows += group.num_rows
        packed += sum(group.column(one).total_compressed_size for one in range(group.num_columns))
        if packed >= bytes_each or number == about.num_row_groups - 1:
            yield Part(path, packed, start, number + 1, before)
            start, before, packed = number + 1, rows, 0
