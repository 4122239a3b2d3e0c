"""Runs programs nobody has read: without network, files, or a way to outlive the run.

Linux only. A program sees the system's programs and libraries read-only, two small folders in
memory, and no process but its own; :mod:`everlong.code.confined` has the order of the walls. Before
the first program a probe tries what must not be possible; where any of it is, or where the system
does not provide what confines, nothing is run: there is no way around the walls.

Not covered: a flaw of the kernel, and how long the processor's caches remember.
"""

from __future__ import annotations

import json
import os
import secrets
import selectors
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from everlong.errors import EverlongError

Status = Literal["ok", "failed", "killed", "timeout", "output"]
"""``ok``: exit status 0; ``failed``: another one; ``killed``: by a signal, such as that of the
limit on processor time; ``timeout``: it took too long; ``output``: it wrote too much."""

_LAUNCHER = Path(__file__).with_name("confined.py")
_VISIBLE = (
    "/usr",
    "/bin",
    "/sbin",
    "/lib",
    "/lib32",
    "/lib64",
    "/libx32",
    "/etc/alternatives",
    "/etc/ld.so.cache",
)
_GRACE_SECONDS = 2.0
_PROBING = threading.Lock()


class SandboxError(EverlongError):
    """Programs cannot be confined here, so none is run."""


@dataclass(frozen=True)
class Limits:
    """What a program may use."""

    seconds: float = 10.0
    """From its start to its end."""
    cpu_seconds: int = 10
    """Of each process."""
    memory: int = 512 << 20
    """Bytes of address space of each process."""
    processes: int = 16
    """At once, threads included."""
    disk: int = 32 << 20
    """Bytes of each of its two folders, and of a file."""
    open_files: int = 64
    output: int = 256 << 10
    """Bytes of standard output and of standard error that are read."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    status: Status
    code: int | None
    """Exit status; negative: the signal that ended it; None: it was stopped from outside."""
    stdout: str
    stderr: str
    seconds: float


def run_python(source: str, *, stdin: str = "", limits: Limits | None = None) -> Outcome:
    """Run a Python program, with this interpreter and its standard library only.

    Raises:
        SandboxError: see :func:`run`.
    """
    python = os.path.realpath(sys.executable)
    argv = [python, "-I", "-S", "-B", "/work/main.py"]
    return run(argv, files={"main.py": source}, stdin=stdin, limits=limits)


def run(
    argv: Sequence[str],
    *,
    files: Mapping[str, str] | None = None,
    stdin: str = "",
    limits: Limits | None = None,
) -> Outcome:
    """Run a program in the sandbox. Safe to call from several threads.

    Args:
        argv: the program's path and its arguments.
        files: texts by their names in its working folder, ``/work``.
        stdin: what it can read.
        limits: what it may use.

    Raises:
        SandboxError: the system cannot confine it; nothing was run.
    """
    _probe()
    return _run(argv, files or {}, stdin, limits or Limits())


def _run(argv: Sequence[str], files: Mapping[str, str], stdin: str, limits: Limits) -> Outcome:
    if sys.platform != "linux":
        raise SandboxError(f"programs can be confined on Linux only, and this is {sys.platform}")
    for name in files:
        if name.startswith("/") or ".." in Path(name).parts:
            raise ValueError(f"{name!r} is not inside the working folder")
    scratch = tempfile.mkdtemp(prefix="everlong-sandbox-")
    told, tell = os.pipe()
    try:
        request = {
            "argv": list(argv),
            "files": dict(files),
            "stdin": stdin,
            "limits": asdict(limits),
            "scratch": scratch,
            "visible": _visible(),
            "environment": {
                "PATH": "/usr/local/bin:/usr/bin:/bin",
                "HOME": "/work",
                "LANG": "C.UTF-8",
            },
        }
        launcher = subprocess.Popen(
            [os.path.realpath(sys.executable), "-I", "-S", "-B", str(_LAUNCHER), str(tell)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[tell],
            env={},
            cwd="/",
            start_new_session=True,
        )
        os.close(tell)
        tell = -1
        try:
            return _watch(launcher, json.dumps(request).encode(), told, limits)
        finally:
            # The first process of the namespace dies with its parent, and takes all others along.
            with suppress(ProcessLookupError):
                launcher.kill()
            launcher.wait()
            for pipe in (launcher.stdin, launcher.stdout, launcher.stderr):
                if pipe is not None:
                    with suppress(BrokenPipeError):
                        pipe.close()
    finally:
        os.close(told)
        if tell >= 0:
            os.close(tell)
        shutil.rmtree(scratch, ignore_errors=True)


def _watch(launcher: subprocess.Popen[bytes], request: bytes, told: int, limits: Limits) -> Outcome:
    assert launcher.stdin
    assert launcher.stdout
    assert launcher.stderr
    begin = time.monotonic()
    with suppress(BrokenPipeError):
        launcher.stdin.write(request)
        launcher.stdin.close()
    texts = {launcher.stdout.fileno(): bytearray(), launcher.stderr.fileno(): bytearray()}
    ending = bytearray()
    stopped: Status | None = None
    with selectors.DefaultSelector() as waiting:
        for descriptor in (*texts, told):
            waiting.register(descriptor, selectors.EVENT_READ)
        while waiting.get_map():
            left = begin + limits.seconds - time.monotonic()
            if left <= 0:
                stopped = "timeout"
                break
            for key, _ in waiting.select(left):
                piece = os.read(key.fd, 65536)
                if not piece:
                    waiting.unregister(key.fd)
                elif key.fd == told:
                    ending += piece
                else:
                    texts[key.fd] += piece
                    if len(texts[key.fd]) > limits.output:
                        stopped = "output"
            if stopped or (ending.endswith(b"\n") and not _more(waiting, texts, limits)):
                break
    seconds = time.monotonic() - begin
    out, err = (bytes(t[: limits.output]).decode(errors="replace") for t in texts.values())
    if stopped is not None:
        return Outcome(stopped, None, out, err, seconds)
    if not ending:
        raise SandboxError(f"the sandbox could not be set up: {err.strip()[-500:] or 'no reason'}")
    end = json.loads(ending)
    if "refused" in end:
        raise SandboxError(
            f"programs cannot be confined here, so none is run; what is missing: {end['refused']}. "
            "Run as root, or allow unprivileged user namespaces (kernel.unprivileged_userns_clone, "
            "kernel.apparmor_restrict_unprivileged_userns)"
        )
    code = int(end["code"])
    status: Status = "ok" if code == 0 else "failed" if code > 0 else "killed"
    return Outcome(status, code, out, err, seconds)


def _more(waiting: selectors.BaseSelector, texts: Mapping[int, bytearray], limits: Limits) -> bool:
    """Read what is in the pipes after the program's end; whether there is more to come."""
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(key.fd in texts for key in waiting.get_map().values()):
        left = deadline - time.monotonic()
        ready = [key for key, _ in waiting.select(max(0.0, left)) if key.fd in texts]
        if not ready:
            return False
        for key in ready:
            piece = os.read(key.fd, 65536)
            if not piece:
                waiting.unregister(key.fd)
            elif len(texts[key.fd]) <= limits.output:
                texts[key.fd] += piece
    return False


@cache
def _visible() -> list[str]:
    """What programs may read: the system's, and this interpreter's own folder."""
    interpreter = [os.path.realpath(sys.base_prefix)]
    inside = any(interpreter[0] == top or interpreter[0].startswith(f"{top}/") for top in _VISIBLE)
    return [*_VISIBLE, *([] if inside else interpreter)]


_PROBE = """
import json, os, socket, sys
port, pid, outside, name = sys.stdin.read().split()
escaped = []
def tried(what, function, *arguments):
    try:
        function(*arguments)
    except (OSError, AttributeError):
        return
    escaped.append(what)
tried("connecting to a port of this machine", socket.create_connection, ("127.0.0.1", int(port)), 1)
def abstract():
    socket.socket(socket.AF_UNIX).connect("\\0" + name)
tried("connecting to a local socket", abstract)
try:
    os.kill(int(pid), 0)
    escaped.append("seeing processes outside")
except PermissionError:  # it is there, and belongs to somebody else
    escaped.append("seeing processes outside")
except ProcessLookupError:
    pass
tried("reading files outside", open, outside)
for folder in ("/", "/usr", "/etc", "/dev"):
    tried(f"writing to {folder}", open, os.path.join(folder, "everlong-probe"), "w")
tried("being root", os.setuid, 0)
tried("another root", os.chroot, "/work")
if any(os.path.exists(p) for p in ("/home", "/var", "/proc/1", "/sys")):
    escaped.append("seeing folders of the system")
print(json.dumps(escaped))
"""


def _probe() -> None:
    with _PROBING:  # once, even if several threads come first
        _probe_once()


@cache
def _probe_once() -> None:
    """Try from inside what must not be possible.

    Raises:
        SandboxError: some of it was, or the sandbox cannot be set up.
    """
    name = f"everlong-probe-{secrets.token_hex(8)}"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        socket.socket(socket.AF_UNIX) as local,
        tempfile.NamedTemporaryFile(prefix="everlong-probe-") as outside,
    ):
        local.bind("\0" + name)
        local.listen()
        asked = f"{server.getsockname()[1]}\n{os.getpid()}\n{outside.name} {name}"
        argv = [os.path.realpath(sys.executable), "-I", "-S", "-B", "/work/main.py"]
        outcome = _run(argv, {"main.py": _PROBE}, asked, Limits())
    if outcome.status != "ok":
        raise SandboxError(
            f"the sandbox's own probe {outcome.status}: {outcome.stderr.strip()[-500:]}"
        )
    if escaped := json.loads(outcome.stdout):
        raise SandboxError(f"the sandbox does not confine here: {', '.join(escaped)} was possible")
