"""What a step of curation is: of one document at a time, or of the whole corpus."""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from io import FileIO
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from everlong.curation.document import Document, Dropped
from everlong.curation.duplicates.store import DuplicateStore
from everlong.errors import MissingDataError

Hashes = NDArray[np.uint64]
_CHUNK = 1 << 16
_MOST_OPEN = 64
"""Files of sketches: a process may have some 1,000 files open, and a store any number of runs."""
_open: deque[weakref.finalize[[], Sketches]] = deque()
"""What closes those that are, the longest open first; of some nothing is left to close."""


class DocumentStep(Protocol):
    """Looks at one document; a frozen dataclass whose fields are its thresholds.

    It may set ``language``, ``licence``, ``metadata`` and ``text``; who changes the text says so in
    ``history``. The result depends on the document alone, in any process.
    """

    @property
    def kind(self) -> str:
        """Its name in a recipe."""

    def __call__(self, document: Document) -> Dropped | None:
        """Why the document is dropped; None: it is kept."""


@runtime_checkable
class MakingStep(Protocol):
    """Makes further documents of one, which stays; a frozen dataclass as well.

    What is made goes through the steps that follow, like any other document.
    """

    @property
    def kind(self) -> str:
        """Its name in a recipe."""

    def make(self, document: Document) -> Iterator[Document]:
        """The new ones, each with an id of its own, and in its metadata what it was made of."""


@runtime_checkable
class CorpusStep(Protocol):
    """Looks at all documents together; a frozen dataclass as well.

    Documents are sketched one by one, anywhere. Then, once, all sketches are looked at in the order
    of the documents; and each document is told what came out. Nothing but arrays with a few bytes
    a document is in memory at once.
    """

    cuts: ClassVar[bool]
    """Whether it changes texts, so that the next such step has to sketch what it leaves."""

    @property
    def kind(self) -> str:
        """Its name in a recipe."""

    def sketch(self, document: Document) -> Hashes:
        """What has to be known of a document, uint64 [any number]."""

    def decide(
        self, sketches: Sketches, kept: NDArray[np.bool_], work: Path, seen: Sequence[str]
    ) -> Findings:
        """What there is to say. Who names another document for one has it dropped.

        Args:
            sketches: of all documents, dropped ones included.
            kept: [N], which ones no step before has dropped; others are as if they were not there.
            work: folder for files that are too large for memory; it is removed afterwards.
            seen: of who remembers runs, those whose documents count as there before, by which they
                are known.
        """

    def apply(self, document: Document, found: Hashes, other: str | None) -> Dropped | None:
        """Change a document, or say why it is dropped.

        Args:
            document: with ``found`` or ``other``.
            found: of :class:`Findings`.
            other: id of the document that was named for it.
        """


@runtime_checkable
class PreparedStep(Protocol):
    """A step that needs something which may not be there."""

    def prepare(self) -> None:
        """Make what takes long, once before the run.

        Raises:
            ConfigError: it is not there.
        """


@runtime_checkable
class ReadingStep(Protocol):
    """A step whose result depends on something else than its fields and the documents."""

    def reads(self) -> Mapping[str, str]:
        """SHA-256 of what that is, by names that do not say where it is."""


def named_file(path: Path, where: str) -> Path:
    """A file that a step names.

    Args:
        path: of the file.
        where: field and step that name it.

    Raises:
        MissingDataError: it is not there.
    """
    if not path.is_file():
        raise MissingDataError(f"{path} is not there; change the {where}")
    return path


@runtime_checkable
class RememberingStep(CorpusStep, Protocol):
    """A corpus step that knows what earlier runs have kept."""

    def remembered(self) -> DuplicateStore | None:
        """What is remembered; None: nothing is.

        Raises:
            ConfigError, DataError: the step cannot use what is there.
        """

    def remember(self, sketches: Sketches, kept: NDArray[np.bool_], run: str) -> None:
        """Learn what this run has kept, when it is complete; it replaces what was learned of the
        same run.

        Args:
            sketches: of all documents.
            kept: [N], which ones are in the result.
            run: by which the run is known, see :func:`everlong.curation.same_run.known_as`.
        """


class Findings(Protocol):
    """What a corpus step found out about each document."""

    def of(self, document: int) -> tuple[Hashes, int | None]:
        """Something that ``apply`` understands, and the number of another document, such as that
        of which it is a copy; an empty array and None: nothing."""


@runtime_checkable
class NotedFindings(Findings, Protocol):
    """Findings that have more to say."""

    def noted(self) -> Mapping[str, int]:
        """Documents, by what is the matter with them, in a word: it is in the data card."""


class Sketches:
    """The sketches of N documents in a file, one after the other.

    Args:
        path: little-endian uint64.
        starts: int64 [N + 1], of each document where its numbers begin, and the end.
    """

    def __init__(self, path: Path, starts: NDArray[np.int64]) -> None:
        self._path, self.starts = path, starts
        self._file: FileIO | None = None

    def __len__(self) -> int:
        return len(self.starts) - 1

    def chunks(self, documents: int = _CHUNK) -> Iterator[tuple[range, Hashes]]:
        """Numbers of consecutive documents, and all their hashes together.

        Read, not mapped: what is mapped counts as memory of the process.
        """
        with self._path.open("rb") as file:
            for first in range(0, len(self), documents):
                last = min(first + documents, len(self))
                count = int(self.starts[last] - self.starts[first])
                yield range(first, last), np.fromfile(file, dtype="<u8", count=count)

    def of(self, document: int) -> Hashes:
        """The hashes of one document."""
        # Left open: to open takes ten times as long as to read.
        if self._file is None or self._file.closed:
            self._file = FileIO(self._path)
            _open.append(weakref.finalize(self, self._file.close))
            while len(_open) > _MOST_OPEN:
                _open.popleft()()
        start, end = (int(8 * one) for one in self.starts[document : document + 2])
        self._file.seek(start)
        return np.frombuffer(bytearray(self._file.read(end - start)), dtype="<u8")
