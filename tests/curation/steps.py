"""Steps for tests of the pipeline: what they do is plain, and sometimes terrible."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np
import xxhash
from numpy.typing import NDArray

from everlong.curation.document import Changed, Document, Dropped
from everlong.curation.step import Hashes, Sketches
from everlong.errors import CheckpointError


@dataclass(frozen=True)
class Short:
    """Drops what is short."""

    kind: Literal["short"] = "short"
    least: int = 20

    def __call__(self, document: Document) -> Dropped | None:
        count = len(document.text)
        return Dropped("letters", f"{count}, at least {self.least}") if count < self.least else None


@dataclass(frozen=True)
class Upper:
    """Writes the word "shout" large."""

    kind: Literal["upper"] = "upper"

    def __call__(self, document: Document) -> None:
        if count := document.text.count("shout"):
            document.text = document.text.replace("shout", "SHOUT")
            document.history.append(Changed(self.kind, "shouted", count))


@dataclass(frozen=True)
class Where:
    """Says which process has a document."""

    kind: Literal["where"] = "where"

    def __call__(self, document: Document) -> None:
        document.metadata["process"] = os.getpid()


@dataclass(frozen=True)
class Terrible:
    """Does what a document tells it."""

    kind: Literal["terrible"] = "terrible"
    once: Path | None = None
    """Where it is noted that something was done already, which is then not done again."""

    def __call__(self, document: Document) -> None:
        word = document.text.partition(" ")[0]
        if self.once is not None and word in ("hang", "crash", "exit"):
            if (self.once / word).exists():
                return
            (self.once / word).touch()
        if word == "hang":
            time.sleep(600)
        elif word == "crash":
            ctypes.string_at(0)
        elif word == "exit":
            os._exit(3)
        elif word == "memory":
            bytearray(1 << 40)
        elif word == "raise":
            raise ValueError("told to")
        elif word == "unloadable":
            raise CheckpointError("the model is damaged")
        elif word == "full":
            raise OSError(28, "No space left on device")


@dataclass(frozen=True)
class Same:
    """Drops what was there before, tells every other document how many there are."""

    kind: Literal["same"] = "same"
    cuts: ClassVar[bool] = False

    def sketch(self, document: Document) -> Hashes:
        return np.array([xxhash.xxh3_64_intdigest(document.text.encode())], dtype=np.uint64)

    def decide(
        self, sketches: Sketches, kept: NDArray[np.bool_], work: Path, seen: Sequence[str]
    ) -> SameFindings:
        first: dict[int, int] = {}
        other: dict[int, int] = {}
        for numbers, hashes in sketches.chunks(3):
            for number, value in zip(numbers, hashes.tolist(), strict=True):
                if kept[number] and first.setdefault(value, number) != number:
                    other[number] = first[value]
        return SameFindings(other, len(sketches))

    def apply(self, document: Document, found: Hashes, other: str | None) -> Dropped | None:
        if other is not None:
            return Dropped("copy", f"of {other}")
        document.metadata["of"] = int(found[0])
        return None


@dataclass(frozen=True)
class SameFindings:
    other: dict[int, int]
    count: int

    def of(self, document: int) -> tuple[Hashes, int | None]:
        if document in self.other:
            return np.empty(0, dtype=np.uint64), self.other[document]
        return np.array([self.count], dtype=np.uint64), None


@dataclass(frozen=True)
class Echo:
    """Makes a second document of every one."""

    kind: Literal["echo"] = "echo"

    def make(self, document: Document) -> Iterator[Document]:
        yield Document(
            f"{document.id}/echo",
            f"{document.text} {document.text}",
            document.source,
            metadata={"made_from": document.id},
        )


@dataclass(frozen=True)
class Clumsy:
    """Makes two documents of every one, of which the first makes :class:`Terrible` fail, and fails
    at the third."""

    kind: Literal["clumsy"] = "clumsy"

    def make(self, document: Document) -> Iterator[Document]:
        for number, word in enumerate(("raise", "good")):
            yield Document(f"{document.id}~{number}", f"{word} one", document.source)
        raise ValueError("a third one does not fit")
