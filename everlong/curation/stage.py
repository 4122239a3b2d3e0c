"""What is done with a task between two looks at the whole corpus.

Steps of single documents follow one another; a step of the whole corpus needs all documents first.
So the steps of a recipe fall into stages: a stage tells documents what was found about them, takes
them through some steps, and sketches what is left for the next look. What it writes for a task, and
that it is done, is one file after the other; the last one, with the counts, makes the others count.
"""

from __future__ import annotations

import itertools
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from everlong.curation.document import Document, Dropped
from everlong.curation.saved import load_json
from everlong.curation.step import CorpusStep, DocumentStep, Hashes, MakingStep
from everlong.curation.tasks import Source, Task, plain_name
from everlong.documents.extracted import Extracted, Limits, Refused, clean
from everlong.documents.reading import read
from everlong.errors import ConfigError, DataError, MissingExtraError
from everlong.files import atomic_write, atomic_writer

log = logging.getLogger(__name__)
_SETTINGS = (ConfigError, MissingExtraError, OSError)
"""What stops a run: it would fail for every document."""
_REASON_LETTERS = 1000
At = Callable[[int, int], None]
"""Told before each document which piece of the task it is of, and its number there."""
Skip = Mapping[tuple[int, int], str]
"""Documents that are left out, by the same, and why."""


@dataclass(frozen=True)
class Stage:
    """Some of a recipe's steps."""

    number: int
    found: tuple[CorpusStep, ...] = ()
    """Whose findings documents are told first."""
    steps: tuple[DocumentStep | MakingStep, ...] = ()
    sketched: tuple[CorpusStep, ...] = ()
    """For which documents are sketched at last."""


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
    refused: list[tuple[str, str]] = field(default_factory=list)
    """Ids of what could not be read or judged, and why."""

    def refuse(self, name: str, why: str) -> None:
        """Take note of what could not be read or judged.

        Args:
            name: id of the document.
            why: for people. It may quote anything, so it is shortened, and made fit to be written.
        """
        self.refused.append((name, clean(why)[:_REASON_LETTERS]))

    def count(self, end: _End, known: int) -> None:
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
        return Counts(**{name: one + vars(other)[name] for name, one in vars(self).items()})

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
            return cls(**{**plain, **counters, "refused": refused})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"counts of a run are of another version, or damaged: {error!r}; name another "
                "folder for a new run"
            ) from None


def stages_of(steps: Sequence[Any]) -> list[Stage]:
    """The stages of a recipe's steps; the last one sketches nothing."""
    stages: list[Stage] = []
    found: list[CorpusStep] = []
    single: list[DocumentStep | MakingStep] = []
    sketched: list[CorpusStep] = []

    def close() -> None:
        stages.append(Stage(len(stages), tuple(found), tuple(single), tuple(sketched)))

    for step in steps:
        if isinstance(step, CorpusStep):
            sketched.append(step)
            continue
        if sketched:
            close()
            found, single, sketched = sketched, [], []
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
        ConfigError, MissingExtraError: a step cannot work as it is set, or lacks a library.
    """
    counts = Counts()
    skips = reading.sources[task.source].skips
    steps = [(step, isinstance(step, MakingStep)) for step in stage.steps if step.kind not in skips]
    if before is None:
        incoming = _from_files(task, reading, skip, at)
    else:
        incoming = _from_stage(task, stage.found, before, skip, at, counts.came)
    with ExitStack() as opened:

        def writer(path: Path) -> BinaryIO:
            return opened.enter_context(atomic_writer(path))

        kept, dropped = writer(to.kept(task.number)), writer(to.dropped(task.number))
        ids = writer(to.ids(task.number))
        sketches = [
            (writer(to.sketches(task.number, n)), writer(to.lengths(task.number, n)))
            for n in range(len(stage.sketched))
        ]
        for found in incoming:
            if isinstance(found, Refused):
                counts.refuse(found.place, found.reason)
                continue
            document, verdict = found
            letters, known = len(document.text), len(document.history)
            try:
                came = [*_through(document, verdict, steps, counts.came)]
                marks = [
                    [one.sketch(end.document) for one in stage.sketched] if end.why is None else []
                    for end in came
                ]
            except _SETTINGS:
                raise
            except Exception as error:  # a step's mistake, and one document, not the run
                log.exception("%s", document.id)
                counts.refuse(document.id, f"{type(error).__name__}: {error}")
                continue
            counts.documents += 1
            counts.letters += letters
            for end, hashes in zip(came, marks, strict=True):
                counts.count(end, 0 if end.made else known)
                line = end.document.to_plain()
                if end.why is not None:
                    dropped.write(_line(line | {"step": end.step} | asdict(end.why)))
                    continue
                kept.write(_line(line))
                ids.write(f"{end.document.id}\n".encode())
                for (values, lengths), sketch in zip(sketches, hashes, strict=True):
                    values.write(sketch.astype("<u8", copy=False).tobytes())
                    lengths.write(len(sketch).to_bytes(4, "little"))
    atomic_write(to.counts(task.number), counts.to_json())
    return counts


@dataclass(frozen=True)
class _End:
    """Where a document's way through a stage ends."""

    document: Document
    step: str = ""
    why: Dropped | None = None
    made: str = ""
    """By which step it was made; empty: it came in."""


def _through(
    document: Document,
    verdict: _End | None,
    steps: Sequence[tuple[Any, bool]],
    came: Counter[str],
) -> Iterator[_End]:
    """A document, and those that are made of it, after some steps.

    Args:
        document: that comes in.
        verdict: of a step of the whole corpus.
        steps: each with whether it is a :class:`MakingStep`.
        came: where it is counted what came to each step.
    """
    if verdict is not None:
        yield verdict
        return
    for number, (step, makes) in enumerate(steps):
        came[step.kind] += 1
        if makes:
            for made in step.make(document):
                for end in _through(made, None, steps[number + 1 :], came):
                    yield end if end.made else replace(end, made=step.kind)
        elif (why := step(document)) is not None:
            yield _End(document, step.kind, why)
            return
    yield _End(document)


def _from_files(
    task: Task, reading: Reading, skip: Skip, at: At
) -> Iterator[tuple[Document, _End | None] | Refused]:
    source = reading.sources[task.source]
    for number, piece in enumerate(task.pieces):
        left_out = {place: why for (of, place), why in skip.items() if of == number}
        items = read(
            piece.part, reading.limits, text_field=source.text, root=piece.root, skip=left_out
        )
        for place in itertools.count():
            at(number, place)
            if (item := next(items, None)) is None:
                break
            name = f"{source.name}/{piece.name}"
            if item.place:
                name += f"#{plain_name(clean(item.place))}"
            if isinstance(item, Refused):
                yield Refused(name, item.reason)
                continue
            yield _document(name, source, item), None


def _document(name: str, source: Source, item: Extracted) -> Document:
    metadata = dict(item.metadata)
    if item.title:
        metadata["title"] = item.title
    licence = source.licence or item.licence
    return Document(name, item.text, source.name, None, licence, metadata)


def _from_stage(
    task: Task,
    found: Sequence[CorpusStep],
    before: StageFiles,
    skip: Skip,
    at: At,
    came: Counter[str],
) -> Iterator[tuple[Document, _End | None] | Refused]:
    told = [_Told(before.found(task.number, n)) for n in range(len(found))]
    with before.kept(task.number).open("rb") as lines:
        for number, line in enumerate(lines):
            at(0, number)
            document = Document.from_plain(json.loads(line))
            news = [one.of(number) for one in told]
            if (0, number) in skip:
                yield Refused(document.id, skip[0, number])
                continue
            yield document, _told(document, found, news, came)


def _told(
    document: Document,
    steps: Sequence[CorpusStep],
    news: Sequence[_News | None],
    came: Counter[str],
) -> _End | None:
    for step, what in zip(steps, news, strict=True):
        came[step.kind] += 1
        if what is not None:
            why = step.apply(document, what.hashes, what.other)
            assert what.other is None or why is not None, "who has another is dropped"
            if why is not None:
                return _End(document, step.kind, why)
    return None


@dataclass(frozen=True)
class _News:
    hashes: Hashes
    other: str | None


class _Told:
    """What a step found out, in the order of the documents."""

    def __init__(self, path: Path) -> None:
        self._lines = _findings(path)
        self._next = next(self._lines, None)

    def of(self, document: int) -> _News | None:
        if self._next is None or self._next[0] != document:
            return None
        news, self._next = self._next[1], next(self._lines, None)
        return news


def _findings(path: Path) -> Iterator[tuple[int, _News]]:
    """The reverse of :func:`finding`, line by line."""
    with path.open("rb") as lines:
        for line in lines:
            number, hashes, other = json.loads(line)
            yield number, _News(np.array(hashes, dtype=np.uint64), other)


def finding(document: int, hashes: Hashes, other: str | None) -> bytes:
    """A line for a document of a task, by its number in it; see :meth:`StageFiles.found`."""
    return _line([document, hashes.tolist(), other])


def _line(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"
