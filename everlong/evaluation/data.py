"""Where tasks find their data: files in a folder, packed or not, each with its checksum."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

from everlong.errors import ConfigError, MissingDataError
from everlong.evaluation.hub import SETS, fetched

T = TypeVar("T")


class Data:
    """A folder of data sets.

    Names are those inside the folder, without ``.gz``: a packed file is found, too.

    Args:
        folder: what ``--data`` names.
        download: fetch what is not there from the Hugging Face hub, as far as it is known there.
    """

    def __init__(self, folder: Path, *, download: bool = False) -> None:
        self.folder = folder
        self.download = download
        self._digests: dict[str, str] = {}

    @property
    def digests(self) -> dict[str, str]:
        """SHA-256 of the content (unpacked) of every file read so far, by name."""
        return dict(self._digests)

    def path(self, name: str) -> Path:
        """The file itself, packed or not.

        Raises:
            MissingDataError: it is not there, and cannot be fetched.
        """
        plain = self.folder / name
        packed = plain.with_name(plain.name + ".gz")
        for path in (plain, packed):
            if path.is_file():
                return path
        if self.download and (known := fetched(name)) is not None:
            return known
        hint = "--data, or --download true" if name in SETS and not self.download else "--data"
        raise MissingDataError(f"needs {plain} (or .gz), which is not there; see {hint}")

    def names(self, pattern: str) -> list[str]:
        """Names of the files that match a pattern such as ``mgsm/mgsm_*.tsv``, sorted.

        Raises:
            MissingDataError: there is none.
        """
        found = {
            path.relative_to(self.folder).as_posix().removesuffix(".gz")
            for ending in ("", ".gz")
            for path in self.folder.glob(pattern + ending)
        }
        if not found:
            raise MissingDataError(f"needs {self.folder / pattern}, and there is none; see --data")
        return sorted(found)

    def content(self, name: str) -> bytes:
        """A file's bytes, unpacked."""
        path = self.path(name)
        try:
            content = gzip.decompress(path.read_bytes()) if _packed(path) else path.read_bytes()
        except (OSError, EOFError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from None
        self._digests[name] = hashlib.sha256(content).hexdigest()
        return content

    def text(self, name: str) -> str:
        """A file's text."""
        try:
            return self.content(name).decode()
        except UnicodeDecodeError as error:
            raise ConfigError(f"{self.path(name)} is not UTF-8: {error}") from None

    def document(self, name: str, parse: Callable[[Any], T]) -> T:
        """What ``parse`` makes of a JSON file.

        Raises:
            ConfigError: the file is malformed, or ``parse`` refuses it.
        """
        text = self.text(name)
        try:
            return parse(json.loads(text))
        except _REFUSALS as error:
            raise ConfigError(f"{self.path(name)}: not what is expected ({error!r})") from None

    def rows(self, name: str, parse: Callable[[Any], T], *, header: bool = True) -> list[T]:
        """What ``parse`` makes of each row.

        Args:
            name: its ending says what a row is: ``.jsonl`` an object, ``.tsv`` and ``.csv`` a
                mapping by the first line (a list without ``header``), else a line of text.
            parse: may raise ValueError, KeyError, TypeError or IndexError for what it refuses.

        Raises:
            ConfigError: a row is malformed, with its number, or there is none.
        """
        found: list[T] = []
        number = 0
        try:
            for number, row in enumerate(_split(name, self.text(name), header), start=1):  # noqa: B007
                found.append(parse(row))
        except _REFUSALS as error:
            raise ConfigError(
                f"{self.path(name)}, row {number}: not what is expected ({error!r})"
            ) from None
        if not found:
            raise ConfigError(f"{self.path(name)} has no rows")
        return found


_REFUSALS = (ValueError, KeyError, TypeError, IndexError, AttributeError, csv.Error)


def _packed(path: Path) -> bool:
    return path.suffix == ".gz"


def _split(name: str, text: str, header: bool) -> Iterator[Any]:
    suffix = Path(name).suffix
    if suffix == ".jsonl":
        yield from (json.loads(line) for line in text.split("\n") if line.strip())
    elif suffix == ".csv":
        lines = io.StringIO(text, newline="")
        yield from csv.DictReader(lines, strict=True) if header else csv.reader(lines)
    elif suffix == ".tsv":
        rows = [line.split("\t") for line in text.replace("\r\n", "\n").split("\n") if line]
        if header and any(len(row) != len(rows[0]) for row in rows):
            # Some tables quote texts that have tabs or line feeds in them; in most, a quotation
            # mark is one.
            rows = list(csv.reader(io.StringIO(text, newline=""), delimiter="\t", strict=True))
        if not header:
            yield from rows
            return
        titles = rows[0] if rows else []
        yield from (dict(zip(titles, row, strict=True)) for row in rows[1:])
    else:
        yield from (line for line in text.split("\n") if line.strip())
