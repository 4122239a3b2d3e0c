"""Worker processes: asked, held still, ended, and what happens when they fail."""

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.contender import Contender, ContenderError, find_interpreter
from benchmarks.cpu_use import CpuUse
from tests.benchmarks import counting_worker

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.fixture
def worker() -> Iterator[Contender]:
    with Contender("counter", counting_worker.__name__, threads=1) as contender:
        yield contender


def load(worker: Contender, path: str = "model") -> dict[str, object]:
    return worker.ask("load", path=path, threads=1, options={})


def state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_answers_are_not_mixed_with_what_libraries_print(worker: Contender) -> None:
    versions = load(worker)["versions"]
    assert versions == {"pytest": pytest.__version__, "no-such-package": "unknown"}
    answer = worker.ask("run", prompts=[[1, 2], [3, 4]], tokens=5)
    assert answer["prompt_tokens"] == [2, 2]
    assert answer["generated"] == [5, 5]
    assert answer["decode_seconds"] is None


def test_an_error_is_told_on_one_line_and_the_worker_lives_on(worker: Contender) -> None:
    with pytest.raises(ContenderError) as failure:
        load(worker, "missing")
    assert str(failure.value) == (
        "counter: FileNotFoundError: there is no missing (and a second line)"
    )
    with pytest.raises(ContenderError, match="KeyError"):
        worker.ask("run", prompts=[[1]], tokens=1)
    load(worker)


def test_the_last_words_of_a_dead_worker_are_told(worker: Contender) -> None:
    load(worker)
    with pytest.raises(ContenderError, match=r"ended with status 3 during 'die'.*last words"):
        worker.ask("die")
    with pytest.raises(ContenderError, match="counter has ended"):
        worker.ask("run", prompts=[[1]], tokens=1)


def test_a_silent_worker_is_ended(worker: Contender) -> None:
    load(worker)
    with pytest.raises(ContenderError, match=r"no answer to 'sleep' in 0\.2 s"):
        worker.ask("sleep", timeout=0.2, seconds=60)
    with pytest.raises(ContenderError, match="counter has ended"):
        worker.ask("encode", text="a")


@linux
def test_a_held_worker_is_stopped_and_wakes_for_the_next_command(worker: Contender) -> None:
    load(worker)
    worker.hold()
    deadline = time.monotonic() + 10
    while state(worker.pid) != "T" and time.monotonic() < deadline:
        time.sleep(0.01)
    assert state(worker.pid) == "T"
    assert worker.ask("encode", text="ab") == {"ids": [97, 98]}
    assert state(worker.pid) != "T"


@linux
def test_closing_ends_a_held_worker() -> None:
    contender = Contender("counter", counting_worker.__name__, threads=1)
    load(contender)
    contender.hold()
    contender.close()
    assert not Path(f"/proc/{contender.pid}").exists()


@linux
def test_what_others_take_of_the_machine_is_seen(worker: Contender) -> None:
    load(worker)
    with CpuUse(os.getpid()) as own:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            json.dumps(list(range(1000)))
    with CpuUse(worker.pid) as others:
        end = time.monotonic() + 0.3
        while time.monotonic() < end:
            json.dumps(list(range(1000)))
    assert own.elsewhere is not None
    assert others.elsewhere is not None
    # This process kept a core busy: counted as its own in the first, as another's in the second.
    assert others.elsewhere >= 0.5 / (os.cpu_count() or 1)


def test_an_interpreter_is_found_by_what_is_installed_in_it() -> None:
    assert find_interpreter("pytest", ["/no/such/python", sys.executable]) == sys.executable
    assert find_interpreter("no_such_module", [sys.executable]) is None
    assert find_interpreter("no_such_package.part", [sys.executable]) is None
    # A folder of the checkout is not an installed package.
    assert find_interpreter("benchmarks", [sys.executable]) is None
