"""Processes that are lost: which document did it, and when nothing helps."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from everlong.curation import workers
from everlong.curation.counts import Counts
from everlong.curation.stage import At, Skip
from everlong.curation.workers import Done, Incident, LocalExecutor, WorkerLimits, _Attempt, _Worker
from everlong.errors import EverlongError


@dataclass(frozen=True)
class Exits:
    """A job of ten documents whose process ends at some of them, -1: before the first one."""

    at: tuple[int, ...]
    heeds: bool = True
    """Whether it leaves out what it is told to."""

    def __call__(self, task: int, skip: Skip, at: At) -> Counts:
        counts = Counts()
        if -1 in self.at:
            os._exit(7)
        for number in range(10):
            at(0, number)
            if self.heeds and (left_out := skip.get((0, number))) is not None:
                counts.refuse(str(number), left_out.why)
            elif number in self.at:
                os._exit(7)
            else:
                counts.documents += 1
        return counts


def stuck(task: int, skip: Skip, at: At) -> Counts:
    """Its reader ends the process before it gives the fourth document."""
    counts = Counts()
    for number in range(10):
        at(0, number)
        if (left_out := skip.get((0, number))) is not None and left_out.rest:
            counts.refuse(f"{number} and on", left_out.why)
            break
        if number == 3:
            os._exit(7)
        counts.documents += 1
    return counts


@dataclass(frozen=True)
class SleepsOnce:
    """A job whose documents take long the first time only, as on a disk that stalls."""

    markers: Path
    documents: int = 1

    def __call__(self, task: int, skip: Skip, at: At) -> Counts:
        for number in range(self.documents):
            at(0, number)
            if (0, number) not in skip and not (marker := self.markers / str(number)).exists():
                marker.touch()
                time.sleep(600)
        return Counts(documents=self.documents - len(skip))


def mistaken(task: int, skip: Skip, at: At) -> Counts:
    raise ValueError("a mistake")


def hangs(task: int, skip: Skip, at: At) -> Counts:
    time.sleep(600)
    return Counts()


def news_of(job: object) -> list[Done | Incident]:
    return [*LocalExecutor(1, WorkerLimits()).map(job, [0])]  # type: ignore[arg-type]


def test_many_bad_documents_in_a_task_cost_only_themselves() -> None:
    *lost, done = news_of(Exits((2, 4, 6, 8)))
    assert isinstance(done, Done)
    assert done.counts.documents == 6
    assert [name for name, _ in done.counts.refused] == ["2", "4", "6", "8"]
    places = [one.place for one in lost if isinstance(one, Incident)]
    assert places == [(0, number) for number in (2, 2, 4, 4, 6, 6, 8, 8)]


def test_what_a_reader_does_not_get_past_costs_the_rest_of_its_file() -> None:
    *lost, done = news_of(stuck)
    assert len(lost) == 3
    assert isinstance(done, Done)
    assert done.counts.documents == 3
    assert done.counts.refused == [("3 and on", "its process ended with status 7")]


def test_a_document_that_took_too_long_once_is_tried_again(tmp_path: Path) -> None:
    executor = LocalExecutor(1, WorkerLimits(seconds=0.5))
    lost, done = executor.map(SleepsOnce(tmp_path), [0])
    assert isinstance(lost, Incident)
    assert isinstance(done, Done)
    assert done.counts.documents == 1


def test_many_documents_that_took_too_long_once_do_not_stop_a_run(tmp_path: Path) -> None:
    executor = LocalExecutor(1, WorkerLimits(seconds=0.5))
    *lost, done = executor.map(SleepsOnce(tmp_path, 4), [0])
    assert [one.place for one in lost if isinstance(one, Incident)] == [(0, n) for n in range(4)]
    assert isinstance(done, Done)
    assert done.counts.documents == 2, "from the third on they are left out at once"


def test_the_document_that_took_too_long_is_blamed_and_not_the_next() -> None:
    class GoesOn(list[float]):
        """Shared memory of a process that goes on as soon as its time was read."""

        def __getitem__(self, at: Any) -> Any:
            value = super().__getitem__(at)
            if at == 2:
                self[:] = 0, 5, time.monotonic()
            return value

    worker = object.__new__(_Worker)
    now = time.monotonic()
    worker.attempt, worker._limits = _Attempt(0), WorkerLimits(seconds=1)
    worker._looked, worker._awake, worker._place = now, now - 9, GoesOn((0, 4, now - 9))
    worker.connection, theirs = multiprocessing.Pipe()
    incident = worker.look()
    theirs.close()
    assert isinstance(incident, Incident)
    assert incident.place == (0, 4)


def test_a_task_that_never_begins_is_given_up() -> None:
    with pytest.raises(EverlongError, match=r"failed 3 times.*status 7.*--resume"):
        news_of(Exits((-1,)))


def test_a_process_that_hangs_before_it_begins_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "_START_SECONDS", 0.5)
    lost: list[Done | Incident] = []
    with pytest.raises(EverlongError, match=r"failed 3 times.*longer than 0\.5 s to start"):
        lost.extend(LocalExecutor(1, WorkerLimits(seconds=0.1)).map(hangs, [0]))
    assert [one.place for one in lost if isinstance(one, Incident)] == [(-1, -1)] * 3


def test_a_task_that_leaving_out_does_not_help_is_given_up() -> None:
    with pytest.raises(EverlongError, match="failed 4 times"):
        news_of(Exits((5,), heeds=False))


def test_a_mistake_is_told_in_its_own_words() -> None:
    told: list[Done | Incident] = []
    with pytest.raises(EverlongError, match="last because ValueError: a mistake"):
        told.extend(LocalExecutor(1, WorkerLimits()).map(mistaken, [0]))
    assert len(told) == 3, "each is told as it happens"


_SLEEPS = """
import sys, time
from everlong.curation.counts import Counts
from everlong.curation.workers import Done, LocalExecutor, WorkerLimits

def job(task, skip, at):
    at(0, 0)
    open(sys.argv[1], "w").close()
    time.sleep(float(sys.argv[2]))
    return Counts(documents=1 - len(skip))

if __name__ == "__main__":
    (done,) = LocalExecutor(1, WorkerLimits(seconds=float(sys.argv[3]))).map(job, [0])
    print(done.counts.documents)
"""


def sleeping(folder: Path, seconds: float, allowed: float) -> subprocess.Popen[str]:
    """A process whose worker has begun to sleep so long at a document."""
    (folder / "sleeps.py").write_text(_SLEEPS)
    begun = folder / "begun"
    path = os.pathsep.join((str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")))
    process = subprocess.Popen(
        [sys.executable, str(folder / "sleeps.py"), str(begun), str(seconds), str(allowed)],
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    while not begun.exists():
        assert process.poll() is None
        time.sleep(0.01)
    return process


@pytest.mark.skipif(sys.platform == "win32", reason="kills a process group at last")
def test_workers_end_with_the_process_that_started_them(tmp_path: Path) -> None:
    process = sleeping(tmp_path, 600, 600)
    try:
        process.kill()
        assert process.communicate(timeout=20)[0] == "", "its output ends when all who have it do"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.skipif(sys.platform == "win32", reason="suspends process groups")
def test_time_in_which_all_is_suspended_does_not_count(tmp_path: Path) -> None:
    process = sleeping(tmp_path, 0.5, 2)
    try:
        os.killpg(process.pid, signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=60)[0] == "1\n"
    finally:
        process.kill()
