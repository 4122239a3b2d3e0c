"""What a stage does with one document, and with those that are made of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO

from everlong.curation.counts import Counts, End
from everlong.curation.document import Document
from everlong.curation.step import CorpusStep, Hashes, MakingStep
from everlong.errors import CheckpointError, ConfigError, MissingExtraError

log = logging.getLogger(__name__)
_SETTINGS = (ConfigError, MissingExtraError, CheckpointError, OSError)
"""What stops a run: it would fail for every document."""


@dataclass(frozen=True)
class News:
    """What a step of the whole corpus found about a document."""

    hashes: Hashes
    """What to look for in it, as the step means it."""
    other: str | None
    """Id of another document that stays for it."""


Steps = Sequence[tuple[Any, bool]]
"""Each with whether it is a :class:`MakingStep`."""


class Way:
    """Takes documents through a stage.

    Args:
        found: steps of the whole corpus whose findings documents are told first.
        sketched: those for which documents are sketched at last.
        counts: where it is counted what came to each step, and what could not be judged.
        refused: file for all that could not.
    """

    def __init__(
        self,
        found: Sequence[CorpusStep],
        sketched: Sequence[CorpusStep],
        counts: Counts,
        refused: BinaryIO,
    ) -> None:
        self._found, self._sketched = found, sketched
        self._counts, self._refused = counts, refused

    def refuse(self, name: str, why: str) -> None:
        """Take note of what could not be read or judged; see :meth:`Counts.refuse`."""
        why = self._counts.refuse(name, why)
        self._refused.write(line_of({"id": name, "why": why}))

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Have a step's mistake cost one document, and not the run."""
        try:
            yield
        except _SETTINGS:
            raise
        except Exception as error:
            log.exception("%s", name)
            self.refuse(name, f"{type(error).__name__}: {error}")

    def told(self, document: Document, news: Sequence[News | None]) -> list[End]:
        """Tell a document what steps of the whole corpus found; its end if one drops it, else
        nothing."""
        for step, what in zip(self._found, news, strict=True):
            self._counts.came[step.kind] += 1
            if what is not None:
                why = step.apply(document, what.hashes, what.other)
                assert what.other is None or why is not None, "who has another is dropped"
                if why is not None:
                    return [End(document, step.kind, why)]
        return []

    def through(self, document: Document, steps: Steps) -> list[End]:
        """The ends of a document, and before it of those that are made of it."""
        ends: list[End] = []
        for number, (step, makes) in enumerate(steps):
            self._counts.came[step.kind] += 1
            if makes:
                ends += self._made(document, step, steps[number + 1 :])
            elif (why := step(document)) is not None:
                return [*ends, End(document, step.kind, why)]
        sketches = [one.sketch(document) for one in self._sketched]
        return [*ends, End(document, sketches=sketches)]

    def _made(self, document: Document, step: MakingStep, steps: Steps) -> list[End]:
        """The ends of what a step makes of a document, after the steps that follow."""
        ends: list[End] = []
        with self.noting(f"{document.id}~{step.kind}"):
            for made in step.make(document):
                with self.noting(made.id):
                    ends += [
                        end if end.made else replace(end, made=step.kind)
                        for end in self.through(made, steps)
                    ]
        return ends


def line_of(value: Any) -> bytes:
    """A line of JSON."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
