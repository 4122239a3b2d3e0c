"""A small corpus that a corpus step looks at, as the pipeline has it look."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from everlong.curation.document import Document, Dropped
from everlong.curation.step import CorpusStep, Hashes, RememberingStep, Sketches


class Corpus:
    """Documents, sketched into a folder.

    Args:
        step: that looks at them.
        texts: of the documents, whose ids are their numbers.
        folder: is made.
        sources: of the documents.
    """

    def __init__(
        self, step: CorpusStep, texts: Sequence[str], folder: Path, sources: Sequence[str] = ()
    ) -> None:
        folder.mkdir()
        self.step, self._folder = step, folder
        names = sources or ["source"] * len(texts)
        self.documents = [
            Document(str(number), text, source)
            for number, (text, source) in enumerate(zip(texts, names, strict=True))
        ]
        sketches = [step.sketch(document) for document in self.documents]
        np.concatenate([np.empty(0, np.uint64), *sketches]).astype("<u8").tofile(folder / "all")
        starts = np.cumsum([0, *map(len, sketches)], dtype=np.int64)
        self.sketches = Sketches(folder / "all", starts)

    def others(self, dropped: Sequence[int] = (), run: str = "run") -> list[int | None]:
        """Which document is named for each one."""
        return [other for _, other in self._findings(dropped, run)]

    def apply(self, dropped: Sequence[int] = (), run: str = "run") -> list[Dropped | None]:
        """What becomes of the documents."""
        return [
            self.step.apply(document, found, None if other is None else str(other))
            for document, (found, other) in zip(
                self.documents, self._findings(dropped, run), strict=True
            )
        ]

    def remember(self, run: str) -> None:
        """Keep all that the step keeps."""
        assert isinstance(self.step, RememberingStep)
        kept = np.array([other is None for other in self.others(run=run)], dtype=np.bool_)
        self.step.remember(self.sketches, kept, run)

    def _findings(self, dropped: Sequence[int], run: str) -> list[tuple[Hashes, int | None]]:
        kept = np.ones(len(self.documents), dtype=np.bool_)
        kept[list(dropped)] = False
        work = self._folder / "work"
        work.mkdir(exist_ok=True)
        store = self.step.remembered() if isinstance(self.step, RememberingStep) else None
        seen = [] if store is None else store.look(run)
        findings = self.step.decide(self.sketches, kept, work, seen)
        return [findings.of(number) for number in range(len(self.documents))]
