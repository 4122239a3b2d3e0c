"""Several processes with the same model, each answering a share of a task's examples.

One process serves a machine well while its cores share one memory. Where they do not (several
sockets), or where Python's own work between two steps takes as long as a step, several are faster.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import torch

from everlong.engine.llm import LLM
from everlong.errors import ConfigError, EngineStoppedError
from everlong.evaluation.data import Data
from everlong.evaluation.provenance import core_numbers
from everlong.evaluation.task import Model, Run, Sample, Settings, Task
from everlong.evaluation.tasks.suites import SUITES

T = TypeVar("T")


@dataclass(frozen=True)
class _Share:
    """What one process is asked."""

    number: int
    task: str
    ids: frozenset[str]
    folder: Path
    download: bool
    settings: Settings


@dataclass(frozen=True)
class _Answer:
    number: int
    sample: Sample | None
    """None: the share is done, or failed."""
    error: Exception | None = None


class Processes:
    """This process and others, each with its part of the cores.

    Args:
        model: which the others load.
        count: of processes, this one included.

    Raises:
        ConfigError: there are more processes than cores.
    """

    def __init__(self, model: Model, count: int) -> None:
        cores = core_numbers()
        if not 1 <= count <= len(cores):
            raise ConfigError(f"processes is {count}; give from 1 to {len(cores)}, the cores here")
        self._before = cores, torch.get_num_threads()
        self._number = 0
        parts = _parts(cores, count)
        context = multiprocessing.get_context("spawn")
        self._others: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []
        for part in parts[1:]:
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, model, part), daemon=True)
            process.start()
            theirs.close()
            self._others.append((process, ours))
        if count > 1:
            _keep_to(parts[0], len(parts[0]))

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for process, connection in self._others:
            connection.close()
            process.terminate()
        for process, _ in self._others:
            process.join()
        _keep_to(*self._before)

    def answers(self, task: Task[Any], run: Run, examples: Sequence[Any]) -> Iterator[Sample]:
        """Samples of ``examples``, each as soon as any process knows it.

        Raises:
            EngineStoppedError: a process has died.
            EverlongError: as the task raises it, here or in another process.
        """
        self._number += 1
        shares = _parts(examples, len(self._others) + 1)
        waiting = []
        for (_, connection), share in zip(self._others, shares[1:], strict=True):
            if share:
                ids = frozenset(example.id for example in share)
                _send(
                    connection,
                    _Share(
                        self._number,
                        task.name,
                        ids,
                        run.data.folder,
                        run.data.download,
                        run.settings,
                    ),
                )
                waiting.append(connection)
        for sample in task.answers(run, shares[0]):
            yield sample
            yield from self._arrived(waiting, 0)
        while waiting:
            yield from self._arrived(waiting, None)

    def _arrived(self, waiting: list[Connection], timeout: float | None) -> Iterator[Sample]:
        for connection in wait(waiting, timeout) if waiting else ():
            assert isinstance(connection, Connection)
            try:
                answer: _Answer = connection.recv()
            except (EOFError, OSError):
                raise EngineStoppedError(
                    "a process that answered a part of the examples has died; those answered are "
                    "kept, run it again to go on"
                ) from None
            if answer.number != self._number:
                continue  # left over from a task that failed in another process
            if answer.error is not None:
                raise answer.error
            if answer.sample is None:
                waiting.remove(connection)
            else:
                yield answer.sample


def _parts(things: Sequence[T], count: int) -> list[Sequence[T]]:
    # Neighbours stay together: cores share caches, and examples prefixes.
    bounds = [n * len(things) // count for n in range(count + 1)]
    return [things[begin:end] for begin, end in pairwise(bounds)]


def _send(connection: Connection, share: _Share) -> None:
    try:
        connection.send(share)
    except OSError:
        raise EngineStoppedError("a process that answers a part of the examples has died") from None


def _keep_to(cores: Sequence[int], threads: int) -> None:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
    torch.set_num_threads(threads)


def _serve(connection: Connection, model: Model, cores: Sequence[int]) -> None:
    """What the other processes do until their connection is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the first process tells when to end
    _keep_to(cores, len(cores))
    try:
        with model.load() as llm:
            while True:
                share: _Share = connection.recv()
                for answer in _answers(llm, model, share):
                    connection.send(answer)
    except (EOFError, BrokenPipeError):
        return


def _answers(llm: LLM, model: Model, share: _Share) -> Iterator[_Answer]:
    try:
        task = next(t for tasks in SUITES.values() for t in tasks if t.name == share.task)
        data = Data(share.folder, download=share.download)
        run = Run(llm, data, share.settings, model=model)
        own = [e for e in task.examples(run.data, share.settings) if e.id in share.ids]
        for sample in task.answers(run, own):
            yield _Answer(share.number, sample)
        yield _Answer(share.number, None)
    except Exception as error:
        yield _Answer(share.number, None, error)
