"""What is done with a task between two looks at the whole corpus.

Steps of single documents follow one another; a step of the whole corpus needs all documents first.
So the steps of a recipe fall into stages: a stage tells documents what was found about them, takes
them through some steps, and sketches what is left for the next look. What it writes for a task, and
that it is done, is one file after the other; the last one, with the counts, makes the others count.

A document that a step fails at is left out and noted, and so is one that was made and fails; what
it was made of stays.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from everlong.curation.counts import Counts, End
from everlong.curation.document import Document
from everlong.curation.language.codes import canonical, is_canonical
from everlong.curation.step import CorpusStep, DocumentStep, Hashes, MakingStep
from everlong.curation.tasks import Piece, Source, Task, plain_name
from everlong.curation.way import News, Way, line_of
from everlong.documents.extracted import Extracted, Limits, Refused, clean
from everlong.documents.reading import read
from everlong.files import atomic_write, atomic_writer

At = Callable[[int, int], None]
"""Told before each document which piece of the task it is of, and its number there; and again
while much is passed over before it."""


@dataclass(frozen=True)
class LeftOut:
    """Why a document is left out."""

    why: str
    rest: bool = False
    """Whether all that its file has behind it is left out with it: it is not known what there is,
    for the reader did not get past it."""


Skip = Mapping[tuple[int, int], LeftOut]
"""Documents that are left out, by what :data:`At` was told."""


@dataclass(frozen=True)
class Stage:
    """Some of a recipe's steps."""

    number: int
    found: tuple[CorpusStep, ...] = ()
    """Whose findings documents are told first."""
    steps: tuple[DocumentStep | MakingStep, ...] = ()
    sketched: tuple[CorpusStep, ...] = ()
    """For which documents are sketched at last."""


def stages_of(steps: Sequence[Any]) -> list[Stage]:
    """The stages of a recipe's steps; the last one sketches nothing."""
    stages: list[Stage] = []
    found: list[CorpusStep] = []
    single: list[DocumentStep | MakingStep] = []
    sketched: list[CorpusStep] = []

    def close() -> None:
        stages.append(Stage(len(stages), tuple(found), tuple(single), tuple(sketched)))

    for step in steps:
        whole = isinstance(step, CorpusStep)
        if sketched and (not whole or sketched[-1].cuts):
            close()
            found, single, sketched = sketched, [], []
        if whole:
            sketched.append(step)
        else:
            single.append(step)
    close()
    if sketched:
        found, single, sketched = sketched, [], []
        close()
    return stages


@dataclass(frozen=True)
class StageFiles:
    """Where a stage keeps what it writes."""

    folder: Path

    @property
    def summary(self) -> Path:
        """There when all tasks are done, and the look at the whole corpus that follows."""
        return self.folder / "summary.json"

    def counts(self, task: int) -> Path:
        """There when a task is done."""
        return self._of(task, "counts.json")

    def kept(self, task: int) -> Path:
        """Documents, one in a line."""
        return self._of(task, "kept.jsonl")

    def dropped(self, task: int) -> Path:
        """Documents that were dropped, with step, rule and detail."""
        return self._of(task, "dropped.jsonl")

    def refused(self, task: int) -> Path:
        """Ids of what could not be read or judged, and why."""
        return self._of(task, "refused.jsonl")

    def ids(self, task: int) -> Path:
        """Of those that are kept, one in a line."""
        return self._of(task, "ids")

    def sketches(self, task: int, step: int) -> Path:
        """Hashes for a step of the whole corpus."""
        return self._of(task, f"sketches-{step}")

    def lengths(self, task: int, step: int) -> Path:
        """How many hashes each document has, uint32."""
        return self._of(task, f"lengths-{step}")

    def found(self, task: int, step: int) -> Path:
        """What the step found about them: lines with document, hashes, and another's id."""
        return self._of(task, f"found-{step}.jsonl")

    def _of(self, task: int, name: str) -> Path:
        return self.folder / f"{task:06d}.{name}"


@dataclass(frozen=True)
class Reading:
    """How files become documents."""

    sources: Mapping[str, Source]
    limits: Limits


def run_task(
    stage: Stage,
    task: Task,
    reading: Reading,
    before: StageFiles | None,
    to: StageFiles,
    skip: Skip,
    at: At,
) -> Counts:
    """Take a task's documents through a stage.

    Args:
        stage: its steps.
        task: which documents.
        reading: how they are read, in the first stage.
        before: what the stage before has written; None: this is the first.
        to: where what comes out is written.
        skip: documents that are left out.
        at: told what is being worked on.

    Raises:
        OSError: something cannot be written. Nothing counts then.
        ConfigError, MissingExtraError, CheckpointError: a step cannot work as it is set, or lacks a
            library or a model.
    """
    counts = Counts()
    skips = reading.sources[task.source].skips
    steps = [(step, isinstance(step, MakingStep)) for step in stage.steps if step.kind not in skips]
    if before is None:
        incoming = _from_files(task, reading, skip, at)
    else:
        incoming = _from_stage(task, len(stage.found), before, skip, at)
    with ExitStack() as opened:

        def writer(path: Path) -> BinaryIO:
            return opened.enter_context(atomic_writer(path))

        kept, dropped = writer(to.kept(task.number)), writer(to.dropped(task.number))
        ids = writer(to.ids(task.number))
        sketches = [
            (writer(to.sketches(task.number, n)), writer(to.lengths(task.number, n)))
            for n in range(len(stage.sketched))
        ]
        way = Way(stage.found, stage.sketched, counts, writer(to.refused(task.number)))
        for found in incoming:
            if isinstance(found, Refused):
                way.refuse(found.place, found.reason)
                continue
            document, news = found
            letters, known = len(document.text), len(document.history)
            ends: list[End] = []
            with way.noting(document.id):
                ends = way.told(document, news) or way.through(document, steps)
            if not ends:
                continue
            counts.documents += 1
            counts.letters += letters
            for end in ends:
                counts.count(end, 0 if end.made else known)
                line = end.document.to_plain()
                if end.why is not None:
                    dropped.write(line_of(line | {"step": end.step} | asdict(end.why)))
                    continue
                kept.write(line_of(line))
                ids.write(f"{end.document.id}\n".encode())
                for (values, lengths), sketch in zip(sketches, end.sketches, strict=True):
                    values.write(sketch.astype("<u8", copy=False).tobytes())
                    lengths.write(len(sketch).to_bytes(4, "little"))
    atomic_write(to.counts(task.number), counts.to_json())
    return counts


_Came = tuple[Document, Sequence[News | None]]
"""A document, and what each step of the whole corpus found about it."""


def _from_files(task: Task, reading: Reading, skip: Skip, at: At) -> Iterator[_Came | Refused]:
    source = reading.sources[task.source]
    for number, piece in enumerate(task.pieces):
        yield from _from_piece(number, piece, source, reading.limits, skip, at)


def _from_piece(
    number: int, piece: Piece, source: Source, limits: Limits, skip: Skip, at: At
) -> Iterator[_Came | Refused]:
    left_out = {place: one for (of, place), one in skip.items() if of == number}
    whys = {place: one.why for place, one in left_out.items()}
    place = 0

    def alive() -> None:
        at(number, place)

    items = read(
        piece.part, limits, text_field=source.text, root=piece.root, skip=whys, alive=alive
    )
    name = behind = f"{source.name}/{piece.name}"
    while True:
        alive()
        if place in left_out and left_out[place].rest:
            yield Refused(behind, f"the file is not read on: {whys[place]}")
            return
        if (item := next(items, None)) is None:
            return
        of = f"{name}#{plain_name(clean(item.place))}" if item.place else name
        if isinstance(item, Refused):
            yield Refused(of, item.reason)
        else:
            yield _document(of, source, item), ()
        place, behind = place + 1, f"{of}+"


def _document(name: str, source: Source, item: Extracted) -> Document:
    metadata = dict(item.metadata)
    if item.title:
        metadata["title"] = item.title
    stated = canonical(item.language or "")
    language = stated if is_canonical(stated) else None  # and no other code, such as ``go``
    licence = source.licence or item.licence
    return Document(name, item.text, source.name, language, licence, metadata)


def _from_stage(
    task: Task, found: int, before: StageFiles, skip: Skip, at: At
) -> Iterator[_Came | Refused]:
    told = [_Told(before.found(task.number, n)) for n in range(found)]
    with before.kept(task.number).open("rb") as lines:
        for number, line in enumerate(lines):
            at(0, number)
            document = Document.from_plain(json.loads(line))
            news = [one.of(number) for one in told]
            if (0, number) in skip:
                yield Refused(document.id, skip[0, number].why)
                continue
            yield document, news


class _Told:
    """What a step found out, in the order of the documents."""

    def __init__(self, path: Path) -> None:
        self._lines = _findings(path)
        self._next = next(self._lines, None)

    def of(self, document: int) -> News | None:
        if self._next is None or self._next[0] != document:
            return None
        news, self._next = self._next[1], next(self._lines, None)
        return news


def _findings(path: Path) -> Iterator[tuple[int, News]]:
    """The reverse of :func:`finding`, line by line."""
    with path.open("rb") as lines:
        for line in lines:
            number, hashes, other = json.loads(line)
            yield number, News(np.array(hashes, dtype=np.uint64), other)


def finding(document: int, hashes: Hashes, other: str | None) -> bytes:
    """A line for a document of a task, by its number in it; see :meth:`StageFiles.found`."""
    return line_of([document, hashes.tolist(), other])
