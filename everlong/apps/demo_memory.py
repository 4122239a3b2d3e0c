"""The memory, shown: a server is told something, killed, started again, and made to forget."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from everlong.errors import EngineStoppedError

FACT = "Please remember: my locker code is 4711."
QUESTION = "What is my locker code?"
_STORY = " ".join(f"On day {n} I walked {n * 7 % 30 + 3} kilometres." for n in range(1, 150))
_LONGEST_START = 60.0


def demo_memory(model: str, show: Console) -> None:
    """Show that a conversation outlives its server, and what forgetting does.

    Args:
        model: name, folder or file of an instruct model.
        show: where to print.
    """
    with tempfile.TemporaryDirectory(prefix="everlong-demo-") as folder:
        memory = Path(folder)
        with _server(model, memory) as (url, process):
            cold = _say(url, "trip", f"{_STORY} {FACT}", show)
            show.print(f"[dim]read in {cold:.2f} s, the first time; now: kill -9 {process.pid}")
            process.send_signal(signal.SIGKILL)
            process.wait()
        with _server(model, memory) as (url, _):
            show.print("[dim]a new server, the same memory; the conversation goes on:")
            warm = _say(url, "trip", QUESTION, show)
            show.print(f"[dim]first token after {warm:.2f} s instead of {cold:.2f} s")
            show.print("[dim]another conversation, which recalls what was said in that one:")
            _say(url, "another", QUESTION, show)
            receipt = _post(url, "/v1/memory/forget", {"query": "4711"})
            show.print(
                f"[dim]forgotten: {receipt['episodes']} texts, {receipt['messages']} messages, "
                f"{receipt['notes']} notes, {receipt['blocks']} blocks; asked again:"
            )
            _say(url, "a third", QUESTION, show)


@contextmanager
def _server(model: str, memory: Path) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "everlong.cli", "serve", model, "--port", str(port)]
    command += ["--memory", str(memory), "--log-level", "error", "--drain-seconds", "0"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=dict(os.environ))
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _LONGEST_START
        while not _healthy(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise EngineStoppedError("the demo's server did not start; see what it said above")
            time.sleep(0.05)
        yield url, process
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait()


def _healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def _say(url: str, session: str, text: str, show: Console) -> float:
    """Ask in a session and print what follows; returns seconds to the first token."""
    shown = text if len(text) < 200 else f"(a diary of 149 days) {text[len(_STORY) :].strip()}"
    show.print(f"[bold]{session}>[/bold] {shown}")
    body = {
        "messages": [{"role": "user", "content": text}],
        "session": session,
        "temperature": 0,
        "max_tokens": 32,
        "stream": True,
    }
    start, first, answer = time.perf_counter(), 0.0, ""
    for event in _events(url, body):
        for one in (event.get("everlong") or {}).get("memory", {}).get("recalled", []):
            show.print(f"[dim]  recalled from {one['session']}: {one['text'][:80]}", markup=True)
        for choice in event["choices"]:
            if piece := choice["delta"].get("content"):
                first = first or time.perf_counter() - start
                answer += piece
    show.print(" ".join(answer.split()), markup=False)
    return first


def _events(url: str, body: dict[str, Any]) -> Iterator[dict[str, Any]]:
    with urllib.request.urlopen(_request(f"{url}/v1/chat/completions", body)) as reply:
        for line in reply:
            if line.startswith(b"data: {"):
                yield json.loads(line[6:])


def _post(url: str, path: str, body: dict[str, Any]) -> Any:
    with urllib.request.urlopen(_request(url + path, body)) as reply:
        return json.loads(reply.read())


def _request(url: str, body: dict[str, Any]) -> urllib.request.Request:
    data, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
    return urllib.request.Request(url, data, headers)
