"""Division of a corpus into tasks, the same however many processes work on them.

A task is some files of one source, or a part of a large one. Tasks are numbered in the order of the
sources and the names of their files, and so are documents: what a step of the whole corpus decides
depends on that order, and never on who was first.
"""

from __future__ import annotations

import os
import re
import urllib.parse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from everlong.documents.reading import Part, parts
from everlong.errors import ConfigError, MissingDataError
from everlong.files import named_files

_UNFIT = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")
"""What a name of a file may have, and neither a line of ids nor UTF-8 can."""
_TAKEN = (".", "..", "training.yaml")
"""Beside the folders of the sources' shards; see :mod:`everlong.curation.shards`."""


@dataclass(frozen=True)
class Source:
    """Files that are read alike."""

    name: str
    paths: tuple[Path, ...]
    """Files, folders (all files in them, in the order of their names) and patterns such as
    ``books/*.txt.gz``."""
    licence: str | None = None
    """SPDX identifier of all its documents; None: as the files say, if they do."""
    text: str = "text"
    """Field with the text, in JSON lines and Parquet."""
    skips: tuple[str, ...] = ()
    """Steps that its documents do not go through, by their ``kind``: rules that are made for prose
    are none for source code. Steps of the whole corpus cannot be skipped."""

    def __post_init__(self) -> None:
        if not self.name or "/" in self.name or _UNFIT.search(self.name) or not self.paths:
            raise ConfigError(
                f"a source has a name without slashes and control characters, and paths, not "
                f"{self.name!r} and {len(self.paths)} paths"
            )
        if self.name.lower() in _TAKEN:
            raise ConfigError(
                f"a source cannot be called {self.name}, for its shards are in a folder of its "
                "name beside others; name it otherwise"
            )


@dataclass(frozen=True)
class Piece:
    """A file of a source, or a part of it."""

    name: str
    """Of the file, from the folder that the source names, as :func:`plain_name` has it; part of
    the documents' ids."""
    root: Path
    """That folder, whose licence counts for what is in it."""
    part: Part


@dataclass(frozen=True)
class Task:
    """What one process does at a time."""

    number: int
    source: str
    pieces: tuple[Piece, ...]

    @property
    def bytes(self) -> int:
        """Of its files, as they are on disk."""
        return sum(piece.part.bytes for piece in self.pieces)


def tasks_of(sources: Sequence[Source], most: int) -> list[Task]:
    """All tasks, in order.

    Args:
        sources: of the corpus.
        most: bytes of a task, about; smaller files are read together, larger ones in parts where
            their format allows it.

    Raises:
        MissingDataError: a path is not there, or has no files.
        ConfigError: two files of a source have the same name.
    """
    tasks: list[Task] = []
    for source in sources:
        together: list[Piece] = []
        size = 0
        seen: dict[str, Path] = {}
        for name, root, path in files_of(source):
            if (other := seen.setdefault(name, path)) != path:
                raise ConfigError(
                    f"{source.name}: {other} and {path} are both called {name}, and documents are "
                    "named by their files; make two sources of them"
                )
            for part in parts(path, most):
                if together and size + part.bytes > most:
                    tasks.append(Task(len(tasks), source.name, tuple(together)))
                    together, size = [], 0
                together.append(Piece(name, root, part))
                size += part.bytes
        if together:
            tasks.append(Task(len(tasks), source.name, tuple(together)))
    return tasks


def files_of(source: Source) -> Iterator[tuple[str, Path, Path]]:
    """Names, root folders and paths of a source's files, in order; what several of its paths name
    is there once.

    Raises:
        MissingDataError: a path is not there, or has no files.
    """
    found = set[str]()
    for path in source.paths:
        inside = path.is_dir()
        try:
            for root, file in named_files(path):
                name, place = file.relative_to(root), os.path.abspath(file)
                hidden = inside and any(part.startswith(".") for part in name.parts)
                if not hidden and place not in found:
                    found.add(place)
                    yield plain_name(name.as_posix()), root, file
        except FileNotFoundError as error:
            raise MissingDataError(f"{source.name}: {error}; change its paths") from None
    if not found:
        named = ", ".join(map(str, source.paths))
        raise MissingDataError(f"{source.name}: there are no files in {named}; change its paths")


def plain_name(name: str) -> str:
    """A name as ids have it: in one line and in UTF-8.

    Bytes of what does not fit are written as in a URL: ``caf%E9.txt``.
    """
    return _UNFIT.sub(lambda found: urllib.parse.quote(os.fsencode(found[0])), name)
