"""What earlier runs have kept, for the steps that drop what is there already.

A folder with files for each run, and ``store.json``, which says what they are, and how their
numbers were made: numbers that were made in another way cannot be compared. It is written last, so
a run is there as a whole or not at all.

A run sees those that were complete when it looked. If it is done again, it sees the same ones:
neither itself, nor what came later, nor what went on beside it. Runs are told apart by what they
read and do (:func:`everlong.curation.same_run.known_as`), not by where they write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from everlong.config import from_plain
from everlong.errors import ConfigError, DataError
from everlong.files import FileLock, atomic_write, atomic_writer

MANIFEST = "store.json"
_FORMAT = 2
"""In the first one runs had the names of their folders."""
_LOCK = ".lock"


@dataclass(frozen=True)
class StoredRun:
    """What one run has kept."""

    run: str
    """By which it is known."""
    saw: int
    """How many runs were there when it looked: the first ones."""
    number: int
    """Its files begin with it."""
    entries: int
    """Documents."""
    files: Mapping[str, int]
    """Bytes of each file."""


@dataclass(frozen=True)
class _Manifest:
    format: int
    step: str
    """``kind`` of the step."""
    parameters: Mapping[str, bool | int]
    """Fields of the step that decide how its numbers are made."""
    runs: tuple[StoredRun, ...] = ()
    """In the order in which they were complete, which they keep if they are done again."""
    looked: Mapping[str, int] = field(default_factory=dict)
    """How many runs were there for those that are not complete."""


class DuplicateStore:
    """A folder of what earlier runs have kept.

    Args:
        folder: it need not exist.
        step: ``kind`` of the step that uses it.
        parameters: fields of the step that decide how its numbers are made.

    Raises:
        ConfigError: the folder is of another step, or of one with other parameters.
        DataError: files are missing or damaged.
    """

    def __init__(self, folder: Path, step: str, parameters: Mapping[str, bool | int]) -> None:
        self.folder = folder
        self._manifest = _Manifest(_FORMAT, step, parameters)
        self._read()

    def look(self, run: str) -> list[str]:
        """By which the runs are known that a run sees, and will see if it is done again when it is
        complete.

        Args:
            run: by which it is known itself.
        """
        with self._changing():
            runs = self._manifest.runs
            if (known := self._find(run)) is not None:
                runs = runs[: known.saw]
            else:
                self._write(runs, {**self._manifest.looked, run: len(runs)})
            return [one.run for one in runs]

    def runs(self, names: Sequence[str]) -> list[StoredRun]:
        """Some runs.

        Args:
            names: by which they are known.

        Raises:
            DataError: one is not here.
        """
        if not self.knows(names):
            raise DataError(
                f"{self.folder} does not have all of {len(names)} runs that were seen in it: one "
                "was forgotten, or it is another store"
            )
        found = {one.run: one for one in self._manifest.runs}
        return [found[name] for name in names]

    def knows(self, names: Sequence[str]) -> bool:
        """Whether all of some runs are here."""
        return {*names} <= {one.run for one in self._manifest.runs}

    def forget(self, run: str) -> int | None:
        """Take out what a run has kept; runs that are done from now on do not see it.

        Args:
            run: by which it is known.

        Returns:
            How many documents are forgotten, none of a run that is not complete; None: the run is
            not here.
        """
        with self._changing():
            looked = {**self._manifest.looked}
            unfinished = looked.pop(run, None) is not None
            if (known := self._find(run)) is None:
                if unfinished:
                    self._write(self._manifest.runs, looked)
                return 0 if unfinished else None
            place = self._manifest.runs.index(known)

            def without(saw: int) -> int:
                return saw - (saw > place)

            left = [
                replace(one, saw=without(one.saw)) for one in self._manifest.runs if one.run != run
            ]
            self._write(left, {name: without(saw) for name, saw in looked.items()})
            self._remove(known)
            return known.entries

    def path(self, run: StoredRun, name: str) -> Path:
        """A file of a run.

        Raises:
            DataError: it is not as long as it was when it was written.
        """
        path = self.folder / f"{run.number:05d}.{name}"
        size = path.stat().st_size if path.is_file() else None
        if size != run.files[name]:
            told = "is missing" if size is None else f"has {size:,} bytes"
            raise DataError(
                f"{path} {told}, and {MANIFEST} says {run.files[name]:,}; bring it back, or begin "
                "a new store"
            )
        return path

    @contextmanager
    def adding(self, run: str, entries: int, names: Sequence[str]) -> Iterator[list[BinaryIO]]:
        """Write the files of a run; they are there when the block ends without an error.

        What is there of the same run is replaced.

        Args:
            run: by which it is known.
            entries: documents.
            names: of the files.
        """
        with self._changing():
            runs, looked = [*self._manifest.runs], {**self._manifest.looked}
            number = 1 + max((one.number for one in runs), default=-1)
            paths = [self.folder / f"{number:05d}.{name}" for name in names]
            with ExitStack() as opened:
                yield [opened.enter_context(atomic_writer(path)) for path in paths]
            sizes = {n: path.stat().st_size for n, path in zip(names, paths, strict=True)}
            saw = looked.pop(run, len(runs))
            if (old := self._find(run)) is None:
                runs.append(StoredRun(run, saw, number, entries, sizes))
            else:  # it keeps its place among the runs
                runs[runs.index(old)] = StoredRun(run, old.saw, number, entries, sizes)
            self._write(runs, looked)
            if old is not None:
                self._remove(old)

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Others wait meanwhile, and what they have written is known."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self.folder / _LOCK):
            self._read()
            yield

    def _remove(self, run: StoredRun) -> None:
        """The files of a run that the manifest does not name any more."""
        for name in run.files:
            (self.folder / f"{run.number:05d}.{name}").unlink(missing_ok=True)

    def _find(self, run: str) -> StoredRun | None:
        return next((one for one in self._manifest.runs if one.run == run), None)

    def _write(self, runs: Sequence[StoredRun], looked: Mapping[str, int]) -> None:
        self._manifest = replace(self._manifest, runs=tuple(runs), looked=looked)
        text = json.dumps(asdict(self._manifest), indent=1, ensure_ascii=False)
        atomic_write(self.folder / MANIFEST, text.encode())

    def _read(self) -> None:
        """Take over what the manifest says."""
        path = self.folder / MANIFEST
        try:
            plain = json.loads(path.read_bytes())
            if isinstance(plain, dict) and plain.get("format") != _FORMAT:
                raise DataError(
                    f"{path} has format {plain.get('format')}, and this version reads {_FORMAT}; "
                    "begin a new store"
                )
            found = from_plain(_Manifest, plain)
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        mine = self._manifest
        if found.step != mine.step:
            raise ConfigError(
                f"{self.folder} is a store of the step {found.step}, not of {mine.step}; name "
                "another folder"
            )
        if differ := {
            name: (found.parameters.get(name), mine.parameters.get(name))
            for name in {*found.parameters, *mine.parameters}
            if found.parameters.get(name) != mine.parameters.get(name)
        }:
            told = ", ".join(f"{n} {old}, not {new}" for n, (old, new) in sorted(differ.items()))
            raise ConfigError(
                f"{self.folder} was made with {told}; set that, or name another folder"
            )
        self._manifest = found
