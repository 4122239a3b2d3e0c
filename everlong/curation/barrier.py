"""Between two stages: steps of the whole corpus look at all sketches.

Every process has written its sketches by then. They are put together in the order of the documents,
each step decides, and what it found is written for each task, so that processes of the next stage
read what they need and nothing else. In memory are some bytes for each document.
"""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everlong.curation.stage import Stage, StageFiles, finding
from everlong.curation.step import Findings, NotedFindings, Sketches
from everlong.files import atomic_writer

_COPY_BYTES = 16 << 20


class Barrier:
    """The look at all documents that a stage has kept.

    Args:
        stage: that has sketched them.
        files: which it wrote.
        tasks: how many there are.
    """

    def __init__(self, stage: Stage, files: StageFiles, tasks: int) -> None:
        self._stage, self._files, self._tasks = stage, files, tasks
        self._work = files.folder / "together"

    def pass_(self, seen: Mapping[str, Sequence[str]]) -> Counter[str]:
        """Decide, and write what was found.

        Args:
            seen: runs whose documents count as there before, by the kinds of steps that remember
                runs.

        Returns:
            What there is to note, by ``step: what``; see :class:`everlong.curation.stage.Counts`.
        """
        self._work.mkdir(exist_ok=True)
        first = self._first()
        kept = np.ones(int(first[-1]), dtype=np.bool_)
        noted: Counter[str] = Counter()
        with closing(_Ids(self._files, self._tasks, self._work)) as ids:
            for n, step in enumerate(self._stage.sketched):
                work = self._work / f"step-{n}"
                work.mkdir(exist_ok=True)
                runs = seen.get(step.kind, ())
                findings = step.decide(self._together(n), kept, work, runs)
                self._write(n, findings, first, kept, ids)
                shutil.rmtree(work)
                if isinstance(findings, NotedFindings):
                    for what, count in findings.noted().items():
                        noted[f"{step.kind}: {what}"] += count
        return noted

    def sketches(self, step: int) -> Sketches:
        """The sketches of all documents for a step, after :meth:`pass_`."""
        return Sketches(self._path(step), self._starts(step))

    def _first(self) -> NDArray[np.int64]:
        """Number of the first document of each task, and how many there are."""
        sizes = [self._files.lengths(t, 0).stat().st_size // 4 for t in range(self._tasks)]
        return np.concatenate(([0], np.cumsum(sizes, dtype=np.int64)))

    def _path(self, step: int) -> Path:
        return self._work / f"sketches-{step}"

    def _starts(self, step: int) -> NDArray[np.int64]:
        lengths = [
            np.fromfile(self._files.lengths(task, step), dtype="<u4") for task in range(self._tasks)
        ]
        return np.concatenate(([0], np.cumsum(np.concatenate(lengths), dtype=np.int64)))

    def _together(self, step: int) -> Sketches:
        with self._path(step).open("wb") as out:
            for task in range(self._tasks):
                with self._files.sketches(task, step).open("rb") as part:
                    shutil.copyfileobj(part, out, _COPY_BYTES)
        return self.sketches(step)

    def _write(
        self,
        step: int,
        findings: Findings,
        first: NDArray[np.int64],
        kept: NDArray[np.bool_],
        ids: _Ids,
    ) -> None:
        for task in range(self._tasks):
            with atomic_writer(self._files.found(task, step)) as out:
                for document in range(int(first[task]), int(first[task + 1])):
                    if not kept[document]:
                        continue
                    hashes, other = findings.of(document)
                    if other is None and not len(hashes):
                        continue
                    kept[document] = other is None
                    name = None if other is None else ids.of(other)
                    out.write(finding(document - int(first[task]), hashes, name))


class _Ids:
    """The ids of all documents, on disk."""

    def __init__(self, files: StageFiles, tasks: int, work: Path) -> None:
        self._path = work / "ids"
        ends: list[NDArray[np.int64]] = [np.zeros(1, dtype=np.int64)]
        size = 0
        with self._path.open("wb") as out:
            for task in range(tasks):
                text = np.fromfile(files.ids(task), dtype=np.uint8)
                ends.append(np.flatnonzero(text == ord("\n")) + 1 + size)
                out.write(text.tobytes())
                size += len(text)
        self._ends = np.concatenate(ends)
        self._file = self._path.open("rb")

    def of(self, document: int) -> str:
        start, end = int(self._ends[document]), int(self._ends[document + 1])
        self._file.seek(start)
        return self._file.read(end - start - 1).decode()

    def close(self) -> None:
        self._file.close()
