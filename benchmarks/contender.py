"""The outside of a worker process: start it, ask it, hold it still, end it."""

from __future__ import annotations

import argparse
import json
import os
import queue
import signal
import subprocess
import sys
import tempfile
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from everlong.evaluation.provenance import ROOT

_CAN_STOP = hasattr(signal, "SIGSTOP")


class ContenderError(Exception):
    """A worker failed, died, or did not answer in time; the message says which and why."""


class Contender:
    """A worker process that answers commands (``worker.serve`` is its other end).

    Between commands the process is stopped by the system (SIGSTOP), wherever there is such a
    thing: the thread pools of llama.cpp, OpenVINO and OpenMP keep spinning for a while after a
    call, which would take the cores away from whoever is measured next.

    Args:
        name: for messages.
        module: what runs in the worker, such as ``benchmarks.peers.openvino``.
        python: the interpreter that runs it.
        threads: threads that its libraries shall use.
        environment: variables on top of this process's.
        arguments: of its command line.
    """

    def __init__(
        self,
        name: str,
        module: str,
        *,
        python: str = sys.executable,
        threads: int,
        environment: dict[str, str] | None = None,
        arguments: Sequence[str] = (),
    ) -> None:
        self.name = name
        self._log: BinaryIO = tempfile.TemporaryFile()  # noqa: SIM115 (closed in close)
        count = str(threads)
        self._process = subprocess.Popen(
            [python, "-m", module, *arguments],
            cwd=ROOT,
            env={
                **os.environ,
                "OMP_NUM_THREADS": count,
                "MKL_NUM_THREADS": count,
                "TOKENIZERS_PARALLELISM": "false",
                "HF_HUB_OFFLINE": "1",
                **(environment or {}),
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
        )
        self._answers: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        self._stopped = False

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def ask(self, command: str, *, timeout: float = 600.0, **arguments: Any) -> dict[str, Any]:
        """Send a command and wait for its answer.

        Raises:
            ContenderError: the command failed, the process ended, or the time was over (the
                process is ended then).
        """
        if self._process.poll() is not None:
            raise ContenderError(f"{self.name} has ended{self._last_words()}")
        self._signal(stop=False)
        request = json.dumps({"do": command, **arguments}) + "\n"
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(request.encode())
            self._process.stdin.flush()
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            self._process.kill()
            self._process.wait()
            raise ContenderError(
                f"{self.name}: no answer to {command!r} in {timeout:g} s"
            ) from None
        except BrokenPipeError:
            line = b""
        if not line:
            self._process.wait()
            raise ContenderError(
                f"{self.name} ended with status {self._process.returncode} during "
                f"{command!r}{self._last_words()}"
            )
        answer = json.loads(line)
        if "error" in answer:
            # Some libraries put line feeds into their messages.
            raise ContenderError(f"{self.name}: {' '.join(answer['error'].split())}")
        result: dict[str, Any] = answer["ok"]
        return result

    def hold(self) -> None:
        """Stop the process until the next command."""
        self._signal(stop=True)

    def close(self) -> None:
        """End the process; nothing happens if it has ended."""
        self._signal(stop=False)
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._reader.join()  # it ends with the pipe, and closes it
        self._log.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._answers.put(line)
        self._answers.put(b"")

    def _signal(self, *, stop: bool) -> None:
        if _CAN_STOP and stop != self._stopped and self._process.poll() is None:
            self._process.send_signal(signal.SIGSTOP if stop else signal.SIGCONT)
            self._stopped = stop

    def _last_words(self) -> str:
        self._log.seek(0)
        lines = deque((line.strip() for line in self._log if line.strip()), maxlen=3)
        return "".join(f"; {line.decode(errors='replace')[:300]}" for line in lines)


def add_peers_option(parser: argparse.ArgumentParser) -> None:
    """``--python``, for :func:`interpreters`."""
    parser.add_argument(
        "--python",
        action="append",
        help="an interpreter that has peers, before this one; may be repeated "
        "(default: $EVERLONG_PEERS_PYTHON)",
    )


def interpreters(given: Sequence[str] | None) -> list[str]:
    """Where peers may be installed, in order."""
    named = given or os.environ.get("EVERLONG_PEERS_PYTHON", "").split(os.pathsep)
    return [*filter(None, named), sys.executable]


def find_interpreter(module: str, candidates: Sequence[str]) -> str | None:
    """The first of several Python interpreters in which ``module`` is installed."""
    look = "import importlib.util as u, sys; sys.exit(u.find_spec(sys.argv[1]) is None)"
    for python in candidates:
        if not Path(python).exists():
            continue
        # From an empty place: a folder of the checkout is no installed package.
        found = subprocess.run(
            [python, "-c", look, module],
            cwd=tempfile.gettempdir(),
            capture_output=True,
            check=False,
        )
        if found.returncode == 0:
            return python
    return None


def ask_once(
    module: str,
    *arguments: str,
    given: str = "",
    environment: Mapping[str, str] | None = None,
    shown: bool = False,
) -> dict[str, Any]:
    """Run a module in a process of its own; returns the JSON object of its last line.

    Args:
        module: such as ``benchmarks.load_once``.
        arguments: of its command line.
        given: its standard input.
        environment: variables besides this process's own.
        shown: whether what it tells on its standard error is shown while it runs.

    Raises:
        RuntimeError: it failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        input=given,
        cwd=ROOT,
        env={**os.environ, **(environment or {})},
        stdout=subprocess.PIPE,
        stderr=None if shown else subprocess.PIPE,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{module} failed" + ("" if shown else f":\n{done.stderr[-2000:]}"))
    answer: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return answer
