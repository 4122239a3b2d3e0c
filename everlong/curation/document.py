"""Documents on their way through curation, and what is said of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Plain = str | int | float | bool | None
"""What a document's metadata may hold; lists and mappings of it are not needed."""


@dataclass(frozen=True)
class Dropped:
    """Why a step keeps a document out."""

    rule: str
    """Short and the same for all documents that it drops, such as ``min_words``: it is counted."""
    detail: str
    """What was found in this document, and what is allowed: ``31 words, at least 50``."""


@dataclass(frozen=True)
class Changed:
    """What a step did to a document's text."""

    step: str
    """``kind`` of the step."""
    rule: str
    count: int
    """Places that were changed."""


@dataclass
class Document:
    """A text, where it is from, and what steps found out about it."""

    id: str
    """The same in every run: name of the source, file, and place in the file."""
    text: str
    source: str
    """Name of the source in the recipe."""
    language: str | None = None
    """ISO 639 code, two letters where there are some: ``en``, ``yue``."""
    licence: str | None = None
    """SPDX identifier where it is known."""
    metadata: dict[str, Plain] = field(default_factory=dict)
    """What the reader knows, such as ``title`` and ``url``; steps add what they measured."""
    history: list[Changed] = field(default_factory=list)

    def to_plain(self) -> dict[str, Any]:
        """As JSON has it; :meth:`from_plain` reads it."""
        return {
            "id": self.id,
            "text": self.text,
            "source": self.source,
            "language": self.language,
            "licence": self.licence,
            "metadata": self.metadata,
            "history": [[one.step, one.rule, one.count] for one in self.history],
        }

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Document:
        """The inverse of :meth:`to_plain`."""
        history = [Changed(*one) for one in plain["history"]]
        return cls(**{**plain, "history": history})
