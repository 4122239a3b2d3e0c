"""What earlier runs have kept, for the steps that drop what is there already.

A folder with files for each run, and ``store.json``, which says what they are, and how their
numbers were made: numbers that were made in another way cannot be compared. It is written last, so
a run is there as a whole or not at all. A run sees those that were there before it: if it is done
again, neither itself nor what came later.
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
_FORMAT = 1
_LOCK = ".lock"


@dataclass(frozen=True)
class StoredRun:
    """What one run has kept."""

    run: str
    """Its name."""
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
    runs: tuple[StoredRun, ...] = field(default=())


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
        self._folder = folder
        self._manifest = _Manifest(_FORMAT, step, parameters)
        self._read()

    def before(self, run: str) -> list[StoredRun]:
        """Runs that were there before a run; all of them, if it is not there itself."""
        names = [one.run for one in self._manifest.runs]
        return [*self._manifest.runs[: names.index(run) if run in names else len(names)]]

    def path(self, run: StoredRun, name: str) -> Path:
        """A file of a run.

        Raises:
            DataError: it is not as long as it was when it was written.
        """
        path = self._folder / f"{run.number:05d}.{name}"
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

        What is there of a run of the same name is replaced.

        Args:
            run: its name.
            entries: documents.
            names: of the files.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / _LOCK):
            self._read()
            runs = [*self._manifest.runs]
            number = 1 + max((one.number for one in runs), default=-1)
            paths = [self._folder / f"{number:05d}.{name}" for name in names]
            with ExitStack() as opened:
                yield [opened.enter_context(atomic_writer(path)) for path in paths]
            sizes = {n: path.stat().st_size for n, path in zip(names, paths, strict=True)}
            added = StoredRun(run, number, entries, sizes)
            old = [one for one in runs if one.run == run]
            if old:  # it keeps its place among the runs
                runs[runs.index(old[0])] = added
            else:
                runs.append(added)
            self._manifest = replace(self._manifest, runs=tuple(runs))
            text = json.dumps(asdict(self._manifest), indent=1, ensure_ascii=False)
            atomic_write(self._folder / MANIFEST, text.encode())
            for one in old:
                for name in one.files:
                    (self._folder / f"{one.number:05d}.{name}").unlink(missing_ok=True)

    def _read(self) -> None:
        """Take over what the manifest says."""
        path = self._folder / MANIFEST
        try:
            found = from_plain(_Manifest, json.loads(path.read_bytes()))
        except FileNotFoundError:
            return
        except (OSError, ValueError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        if found.format != _FORMAT:
            raise DataError(f"{path} has format {found.format}, and this version reads {_FORMAT}")
        mine = self._manifest
        if found.step != mine.step:
            raise ConfigError(
                f"{self._folder} is a store of the step {found.step}, not of {mine.step}; name "
                "another folder"
            )
        if differ := {
            name: (found.parameters.get(name), mine.parameters.get(name))
            for name in {*found.parameters, *mine.parameters}
            if found.parameters.get(name) != mine.parameters.get(name)
        }:
            told = ", ".join(f"{n} {old}, not {new}" for n, (old, new) in sorted(differ.items()))
            raise ConfigError(
                f"{self._folder} was made with {told}; set that, or name another folder"
            )
        self._manifest = found
