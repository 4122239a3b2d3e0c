"""Samples kept on disk: what was answered once is not asked again, and a broken run goes on."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TextIO

from everlong.errors import ConfigError
from everlong.evaluation.task import Sample
from everlong.files import FileLock


def key_of(circumstances: Mapping[str, Any]) -> str:
    """A name for the circumstances of a run: equal ones, and only those, share samples.

    Args:
        circumstances: plain JSON: model, task, settings, data.
    """
    text = json.dumps(circumstances, sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class SampleFile:
    """Samples as JSON lines, added one by one.

    The first line tells the circumstances. A line that a crash left unfinished is dropped. One
    process at a time has it open.

    Args:
        path: the file; its folder is made.
        circumstances: see :func:`key_of`.
    """

    def __init__(self, path: Path, circumstances: Mapping[str, Any]) -> None:
        self.path = path
        self._circumstances = dict(circumstances)
        self._lines: TextIO | None = None
        self._lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=0)
        self.known: dict[str, Sample] = {}
        """Samples in the file, by the example's id."""

    def __enter__(self) -> SampleFile:
        """Read what is there.

        Raises:
            EverlongError: another process is answering the same.
            ConfigError: the file is malformed.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:
            undo.enter_context(self._lock)
            end = self._read()
            self._lines = self.path.open("a+", encoding="utf-8")
            self._lines.truncate(end)
            if not end:
                self._lines.write(json.dumps(self._circumstances) + "\n")
            undo.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._lines is not None
        self._lines.close()
        self._lock.__exit__(kind, error, traceback)

    def add(self, sample: Sample) -> None:
        """Keep a sample."""
        assert self._lines is not None, "used inside its with block"
        self._lines.write(json.dumps(asdict(sample), ensure_ascii=False) + "\n")
        self._lines.flush()
        self.known[sample.id] = sample

    def _read(self) -> int:
        """Read what is there; the number of bytes that are good."""
        good = 0
        try:
            with self.path.open("rb") as lines:
                for line in lines:
                    if not line.endswith(b"\n"):
                        break
                    if good:
                        sample = Sample(**json.loads(line))
                        self.known[sample.id] = sample
                    good += len(line)
        except FileNotFoundError:
            return 0
        except (OSError, ValueError, TypeError) as error:
            raise ConfigError(f"{self.path} cannot be read ({error}); remove it") from None
        return good


def write_samples(samples: Iterable[Sample], path: Path) -> None:
    """Samples as JSON lines, for reading."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as lines:
        for sample in samples:
            lines.write(json.dumps(asdict(sample), ensure_ascii=False) + "\n")


def read_samples(path: Path) -> list[Sample]:
    """What :func:`write_samples` wrote.

    Raises:
        ConfigError: the file is missing or malformed.
    """
    try:
        return [Sample(**json.loads(line)) for line in path.read_text("utf-8").splitlines()]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from None


def file_name(task: str) -> str:
    """A file's name for a task."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", task) + ".jsonl"
