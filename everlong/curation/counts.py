"""What became of documents, in numbers that can be added up."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from everlong.curation.document import Document, Dropped
from everlong.curation.saved import load_json
from everlong.curation.step import Hashes
from everlong.documents.extracted import clean
from everlong.errors import DataError

_REASON_LETTERS = 1000
_LISTED = 200
"""Refusals that counts name; a file of the task has all."""


@dataclass(frozen=True)
class End:
    """Where a document's way through a stage ends."""

    document: Document
    step: str = ""
    why: Dropped | None = None
    made: str = ""
    """By which step it was made; empty: it came in."""
    sketches: Sequence[Hashes] = ()
    """For each step of the whole corpus that comes next, of a document that stays."""


@dataclass
class Counts:
    """What became of a task's documents in a stage."""

    documents: int = 0
    """That came in."""
    letters: int = 0
    kept: int = 0
    kept_letters: int = 0
    came: Counter[str] = field(default_factory=Counter)
    """To each step: those of sources that skip it, and what was dropped before, do not."""
    made: Counter[str] = field(default_factory=Counter)
    """By steps that make documents of others."""
    dropped: Counter[str] = field(default_factory=Counter)
    """By ``step: rule``."""
    dropped_letters: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)
    """Documents, by ``step: rule``."""
    parts: Counter[str] = field(default_factory=Counter)
    """Letters of what is kept, by ``source language``; the language is empty where none is told."""
    noted: Counter[str] = field(default_factory=Counter)
    """Documents of which a step of the whole corpus has more to say, by ``step: what``."""
    refusals: int = 0
    """What could not be read or judged: documents, files, and ends of files."""
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Ids of the first of it, and why; :meth:`StageFiles.refused` has all."""

    def refuse(self, name: str, why: str) -> str:
        """Take note of what could not be read or judged.

        Args:
            name: id of the document.
            why: for people. It may quote anything.

        Returns:
            Why, shortened, and made fit to be written.
        """
        why = clean(why)[:_REASON_LETTERS]
        self.refusals += 1
        if len(self.refused) < _LISTED:
            self.refused.append((name, why))
        return why

    def count(self, end: End, known: int) -> None:
        """Count where a document ends.

        Args:
            end: where.
            known: changes that it came with.
        """
        document, letters = end.document, len(end.document.text)
        if end.made:
            self.made[end.made] += 1
        for change in document.history[known:]:
            self.changed[f"{change.step}: {change.rule}"] += 1
        if end.why is not None:
            name = f"{end.step}: {end.why.rule}"
            self.dropped[name] += 1
            self.dropped_letters[name] += letters
            return
        self.kept += 1
        self.kept_letters += letters
        self.parts[f"{document.source} {document.language or ''}"] += letters

    def __add__(self, other: Counts) -> Counts:
        both = Counts(**{name: one + vars(other)[name] for name, one in vars(self).items()})
        del both.refused[_LISTED:]
        return both

    def to_json(self) -> bytes:
        """As :meth:`load` reads it."""
        return json.dumps(vars(self), ensure_ascii=False).encode()

    @classmethod
    def load(cls, path: Path) -> Counts:
        """From a file with :meth:`to_json`.

        Raises:
            DataError: it is damaged.
        """
        return cls.from_plain(load_json(path))

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Counts:
        """From what JSON has of it.

        Raises:
            DataError: it is of another version, or something else.
        """
        try:
            counters = {
                n: Counter(plain[n]) for n, one in vars(cls()).items() if isinstance(one, Counter)
            }
            refused = [(name, why) for name, why in plain["refused"]]
            # Those of earlier versions name all.
            return cls(**{"refusals": len(refused), **plain, **counters, "refused": refused})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"counts of a run are of another version, or damaged: {error!r}; name another "
                "folder for a new run"
            ) from None
