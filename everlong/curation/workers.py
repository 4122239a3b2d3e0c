"""Processes that work on tasks, and can be killed.

A document may hang a parser, take all memory or crash the interpreter. Processes tell, in memory
that is shared, what they work on; one that stays too long at a document is ended, one that dies is
noticed, and the task is done again without the document that did it: once to see whether it was the
document, then without it. Everything else of the task is kept.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol

from everlong.curation.stage import At, Counts, Skip
from everlong.errors import ConfigError, EverlongError

_TRIES = 3
"""Times that a task is begun without a document to blame."""
_TASKS = 100
"""Of a process: parsers keep some of what they have seen, such as names of elements, for good."""
_LOOK_SECONDS = 0.2
_SPAWN = multiprocessing.get_context("spawn")


def cores() -> int:
    """Of the machine, that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Job(Protocol):
    """What is done with a task; it is sent to other processes."""

    def __call__(self, task: int, skip: Skip, at: At) -> Counts:
        """Do it; see :func:`everlong.curation.stage.run_task`."""


@dataclass(frozen=True)
class WorkerLimits:
    """Of a process."""

    seconds: float = 60
    """For one document, in all steps of a stage."""
    memory: int = 4 << 30
    """Bytes that a process may take for its data, where the system can limit that."""

    def __post_init__(self) -> None:
        if not self.seconds > 0 or self.memory < 1 << 28:
            raise ConfigError(
                f"seconds is above 0 and memory at least {1 << 28}, not {self.seconds} and "
                f"{self.memory}"
            )


@dataclass(frozen=True)
class Incident:
    """A process that was lost, and over what."""

    task: int
    place: tuple[int, int]
    """Piece of the task, and document in it, that was worked on."""
    what: str


@dataclass(frozen=True)
class Done:
    """A task that is done."""

    task: int
    counts: Counts
    incidents: tuple[Incident, ...]


class Executor(Protocol):
    """Does a job with many tasks."""

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done]:
        """Each task as it is done, in any order.

        Raises:
            EverlongError: of the job; or a task failed again and again.
            OSError: of the job, such as a full disk.
        """


class LocalExecutor:
    """Processes of this machine.

    Args:
        count: of processes.
        limits: of each.
    """

    def __init__(self, count: int, limits: WorkerLimits) -> None:
        if count < 1:
            raise ConfigError(f"workers is 1 or more, not {count}")
        self._count, self._limits = count, limits

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done]:
        """See :class:`Executor`."""
        waiting = [_Attempt(task) for task in reversed(tasks)]
        workers: list[_Worker] = []
        try:
            while waiting or workers:
                while waiting and len(workers) < min(self._count, len(tasks)):
                    workers.append(_Worker(job, self._limits))
                    workers[-1].begin(waiting.pop())
                wait([worker.connection for worker in workers], _LOOK_SECONDS)
                for worker in list(workers):
                    done = worker.look()
                    if worker.lost is not None:
                        waiting.append(worker.lost)
                    elif done is not None and waiting and not worker.old:
                        worker.begin(waiting.pop())
                    if worker.lost is not None or worker.idle:
                        workers.remove(worker)
                        worker.end()
                    if done is not None:
                        yield done
        finally:
            for worker in workers:
                worker.end()


@dataclass
class _Attempt:
    """A task, and what became of it so far."""

    task: int
    skip: dict[tuple[int, int], str] = field(default_factory=dict)
    suspects: set[tuple[int, int]] = field(default_factory=set)
    incidents: list[Incident] = field(default_factory=list)

    def blame(self, place: tuple[int, int], what: str, surely: bool) -> None:
        """Take note of a process that was lost.

        Args:
            place: of the document that it worked on.
            what: happened.
            surely: whether the document did it; else only when it happens twice.

        Raises:
            EverlongError: the task cannot be done.
        """
        self.incidents.append(Incident(self.task, place, what))
        if surely or place in self.suspects:
            self.skip[place] = what
        elif len(self.incidents) - len(self.skip) >= _TRIES:
            raise EverlongError(
                f"task {self.task} failed {len(self.incidents)} times, last because {what}; what "
                "is done is kept; look at the machine's memory, and start the run again"
            )
        self.suspects.add(place)


class _Worker:
    """One process, and what it works on."""

    def __init__(self, job: Job, limits: WorkerLimits) -> None:
        self._limits = limits
        self._place = _SPAWN.RawArray("d", 3)  # piece, document, time
        self.connection, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(
            target=_work, args=(job, theirs, self._place, limits.memory), daemon=True
        )
        self._process.start()
        theirs.close()
        self._attempt: _Attempt | None = None
        self._begun = 0
        self.lost: _Attempt | None = None
        """What the process was lost over; it is not to be used any more."""

    @property
    def old(self) -> bool:
        """Whether it has done so much that a new one is to take its place."""
        return self._begun >= _TASKS

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do."""
        return self._attempt is None

    def begin(self, attempt: _Attempt) -> None:
        self._attempt = attempt
        self._begun += 1
        self._place[0] = self._place[1] = -1
        self._place[2] = time.monotonic()
        self.connection.send((attempt.task, attempt.skip))

    def look(self) -> Done | None:
        """What has happened since: the task is done, or the process is lost, or neither."""
        attempt = self._attempt
        assert attempt is not None, "it has something to do"
        try:
            told = self.connection.recv() if self.connection.poll() else None
        except (EOFError, ConnectionResetError):
            self._process.join()
            self._lose(attempt, f"its process ended with {_status(self._process.exitcode)}", False)
            return None
        if isinstance(told, Counts):
            self._attempt = None
            return Done(attempt.task, told, tuple(attempt.incidents))
        if told is not None:
            raise told
        began = self._place[0] >= 0  # before, the process is still starting
        if began and time.monotonic() - self._place[2] > self._limits.seconds:
            self._lose(attempt, f"it took longer than {self._limits.seconds:g} s", True)
        return None

    def _lose(self, attempt: _Attempt, what: str, surely: bool) -> None:
        attempt.blame((int(self._place[0]), int(self._place[1])), what, surely)
        self.lost = attempt

    def end(self) -> None:
        """Kill the process: what it has not finished does not count."""
        self.connection.close()
        self._process.kill()
        self._process.join()


def _work(job: Job, connection: Connection, place: Any, memory: int) -> None:
    """The process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one that started it
    _limit(memory)

    def at(piece: int, document: int) -> None:
        place[0], place[1], place[2] = piece, document, time.monotonic()

    while True:
        try:
            task, skip = connection.recv()
        except EOFError:
            return
        try:
            told: Any = job(task, skip, at)
        except EverlongError as error:
            told = EverlongError(str(error))  # others cannot be sent, they take other arguments
        except OSError as error:
            told = error
        connection.send(told)


def _limit(memory: int) -> None:
    if sys.platform == "win32":
        return
    import resource

    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _status(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {-code}" + (" (out of memory?)" if code == -9 else "")
    return f"status {code}"
