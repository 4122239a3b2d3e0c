"""Processes that are lost: which document did it, and when nothing helps."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from everlong.curation import workers
from everlong.curation.stage import At, Counts, Skip
from everlong.curation.workers import Done, Incident, LocalExecutor, WorkerLimits
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
            if self.heeds and (why := skip.get((0, number))) is not None:
                counts.refuse(str(number), why)
            elif number in self.at:
                os._exit(7)
            else:
                counts.documents += 1
        return counts


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
    with pytest.raises(EverlongError, match="failed 3 times"):
        news_of(Exits((5,), heeds=False))


def test_a_mistake_is_told_in_its_own_words() -> None:
    told: list[Done | Incident] = []
    with pytest.raises(EverlongError, match="last because ValueError: a mistake"):
        told.extend(LocalExecutor(1, WorkerLimits()).map(mistaken, [0]))
    assert len(told) == 3, "each is told as it happens"


_SLEEPS = """
import sys, time
from everlong.curation.stage import Counts
from everlong.curation.workers import Done, LocalExecutor, WorkerLimits

def job(task, skip, at):
    at(0, 0)
    open(sys.argv[1], "w").close()
    time.sleep(0.5)
    return Counts(documents=1 - len(skip))

if __name__ == "__main__":
    (done,) = LocalExecutor(1, WorkerLimits(seconds=2)).map(job, [0])
    print(done.counts.documents)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="suspends process groups")
def test_time_in_which_all_is_suspended_does_not_count(tmp_path: Path) -> None:
    (tmp_path / "sleeps.py").write_text(_SLEEPS)
    begun = tmp_path / "begun"
    path = os.pathsep.join((str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")))
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "sleeps.py"), str(begun)],
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": path},
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while not begun.exists():
            assert process.poll() is None
        os.killpg(process.pid, signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=3)
        os.killpg(process.pid, signal.SIGCONT)
        assert process.communicate(timeout=60)[0] == "1\n"
    finally:
        process.kill()
