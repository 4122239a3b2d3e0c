"""A process whose memory's files fail at a chosen call; see :mod:`tests.crash.shim`.

``python -m tests.crash.faulty FOLDER SIZE SEED FIRST STEP`` lets the calls FIRST, FIRST + STEP, ...
of the same use of a memory fail, each in every way, each in a process of its own. For each it
prints a line of JSON: the call, the way, and what was not as it must be (nothing, if all is well).
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from tests.crash.life import Broken, Life, Promise, hold_to, never_dropped
from tests.crash.shim import Fault, Kind, Shim, read_log

STEPS = 25
_FOR_EVER = 1 << 40
_WAYS = (
    (Fault.EIO, 1),
    (Fault.EIO, _FOR_EVER),
    (Fault.ENOSPC, 1),
    (Fault.ENOSPC, _FOR_EVER),
    (Fault.SHORT, _FOR_EVER),
    (Fault.TORN, 1),
    (Fault.KILL, 1),
)
"""How a call fails, and how many after it do."""
_LOST = re.compile(r"\((\d+) lost\)")
_SECONDS = 60
"""A process that takes longer hangs."""


def main(folder: Path, size: int, seed: int, first: int, step: int) -> None:
    """Let calls fail."""
    shim = Shim()

    def use(fault: Fault, call: int, count: int) -> None:
        shim.watch(folder / "root", folder / "log")
        promise = Promise()

        def say() -> None:
            shim.mark(promise.as_json())

        say()
        life = Life(folder / "root" / "memory", size, seed, promise, say)
        if call:
            shim.fail(call, fault, count)
        for _ in range(STEPS):
            life.step()
        shim.fail(0, fault, 0)
        (folder / "calls").write_text(str(shim.calls()))
        if fault is Fault.SHORT and life.told:
            raise Broken(f"a short write is an error: {life.told}")
        # The fault has gone, and the same process works on.
        life.told.clear()
        for _ in range(3):
            life.step()
            trouble = life.opened().blocks.stats().trouble
            if life.told or trouble:
                raise Broken(f"it does not work on: {life.told} {trouble}")
        life.close()
        check(promise)

    def check(promise: Promise) -> None:
        memory = folder / "root" / "memory"
        hold_to(memory, size, never_dropped(promise, size), promise)

    def check_marks() -> None:
        marks = [o.data for o in read_log(folder / "log") if o.kind is Kind.MARK]
        promise = Promise.of(marks[-1])
        promise.next += 10  # some more may be there
        promise.ever = never_dropped(promise, size)
        check(promise)

    shutil.rmtree(folder, ignore_errors=True)
    call = 0
    calls = 1 << 40
    while call <= calls:
        for fault, count in _WAYS if call else _WAYS[:1]:
            (folder / "root").mkdir(parents=True)
            problem = _apart(lambda call=call, fault=fault, count=count: use(fault, call, count))
            if fault in (Fault.TORN, Fault.KILL) and problem == f"signal {signal.SIGKILL:d}":
                problem = _apart(check_marks)
            if not call:
                calls = int((folder / "calls").read_text())
            lost = int(found.group(1)) if (found := _LOST.match(problem)) else 0
            print(json.dumps([call, fault.name, count, problem, lost]), flush=True)
            shutil.rmtree(folder)
        call = call + step if call else first


def _apart(work: Callable[[], None]) -> str:
    """Do something in a process of its own; returns what went wrong there."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(_SECONDS)
        try:
            work()
        except Broken as error:
            os.write(writing, f"({error.lost} lost) {error}".encode()[:4000])
        except BaseException:
            os.write(writing, " | ".join(traceback.format_exc().split("\n")[-4:]).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        problem = told.read().decode()
    _, status = os.waitpid(child, 0)
    return problem or (f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
