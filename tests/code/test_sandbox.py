"""Programs that try to get out of the sandbox. Each attempt is checked from outside, too."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from everlong.code import sandbox
from everlong.code.sandbox import Limits, Outcome, SandboxError, run, run_python

SHORT = Limits(seconds=5)


@pytest.fixture(scope="module", autouse=True)
def confined() -> None:
    try:
        run_python("")
    except SandboxError as error:
        pytest.skip(f"this system cannot confine programs: {error}")


def said(source: str, **options: object) -> str:
    outcome = run_python(source, limits=SHORT, **options)  # type: ignore[arg-type]
    assert outcome.status == "ok", outcome
    return outcome.stdout.strip()


def attempt(code: str) -> str:
    """What comes of a piece of code: ``done``, or the name of what it raised."""
    lines = "\n".join(f"    {line}" for line in code.strip().split("\n"))
    return said(f"try:\n{lines}\n    print('done')\nexcept BaseException as e:\n    print(repr(e))")


def processes_with(mark: str) -> list[str]:
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if mark in command:
            found.append(command)
    return found


def test_a_program_gets_its_input_and_its_output_comes_back() -> None:
    outcome = run_python("import sys; print(sys.stdin.read()[::-1]); sys.exit(3)", stdin="abc")
    assert (outcome.status, outcome.code, outcome.stdout) == ("failed", 3, "cba\n")
    outcome = run_python("import sys; sys.stderr.write('é'); raise KeyError('x')")
    assert outcome.status == "failed"
    assert "KeyError: 'x'" in outcome.stderr
    assert outcome.stderr.startswith("é")


def test_other_programs_run_too() -> None:
    outcome = run(["/bin/sh", "-c", "cat a/b.txt; pwd"], files={"a/b.txt": "inside\n"})
    assert (outcome.status, outcome.stdout) == ("ok", "inside\n/work\n")
    outcome = run(["/nowhere/program"])
    assert outcome.code == 127
    assert "cannot be started" in outcome.stderr
    with pytest.raises(ValueError, match="not inside the working folder"):
        run(["/bin/true"], files={"../x": ""})


def test_no_network() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
    ):
        udp.bind(("127.0.0.1", 0))
        tcp.settimeout(0.3)
        udp.settimeout(0.3)
        port = tcp.getsockname()[1]
        tried = attempt(f"import socket\nsocket.create_connection(('127.0.0.1', {port}), 2)")
        assert "OSError" in tried or "ConnectionRefused" in tried
        port = udp.getsockname()[1]
        attempt(
            "import socket\n"
            f"socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port}))"
        )
        with pytest.raises(TimeoutError):
            tcp.accept()
        with pytest.raises(TimeoutError):
            udp.recv(1)


def test_no_local_sockets(tmp_path: Path) -> None:
    for name in ("\0everlong-test", str(tmp_path / "socket")):
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(name)
            server.listen()
            tried = attempt(f"import socket\nsocket.socket(socket.AF_UNIX).connect({name!r})")
            assert tried.startswith(("ConnectionRefused", "FileNotFound"))


def test_no_files_of_the_user(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    for path in (secret, Path("/proc/self/environ"), Path("/etc/passwd")):
        assert "FileNotFound" in attempt(f"open({str(path)!r}).read()")
    # Folders on the way to the interpreter are there, and hold nothing else.
    for path in (Path.home(), Path("/sys"), Path("/proc"), Path("/var"), tmp_path):
        listed = attempt(f"import os\nassert len(os.listdir({str(path)!r})) > 1")
        assert listed.startswith(("FileNotFound", "AssertionError"))
    assert said("import os; print(sorted(os.environ))") == "['HOME', 'LANG', 'PATH']"


def test_no_writing_outside(tmp_path: Path) -> None:
    target = tmp_path / "written"
    for path in (str(target), "/usr/bin/written", "/written", "/etc/written", "/dev/written"):
        assert "Error" in attempt(f"open({path!r}, 'w').write('x')")
    # Its own folders can be written, and are not the system's.
    assert attempt("open('/tmp/everlong-was-here', 'w').write('x')") == "done"
    assert not Path("/tmp/everlong-was-here").exists()
    assert attempt("open('/work/x', 'w').write('x')") == "done"
    assert not target.exists()


def test_links_lead_nowhere(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    assert "FileNotFound" in attempt(
        f"import os\nos.symlink({str(secret)!r}, '/work/link')\nopen('/work/link').read()"
    )
    assert "Error" in attempt(f"import os\nos.link({sys.executable!r}, '/work/link')")
    assert "Error" in attempt("import os\nos.mknod('/work/disk', 0o60666, os.makedev(8, 0))")


def test_an_endless_loop_ends() -> None:
    begin = time.monotonic()
    outcome = run_python("while True: pass", limits=Limits(seconds=1))
    assert outcome.status == "timeout"
    outcome = run_python("while True: pass", limits=Limits(seconds=20, cpu_seconds=1))
    assert (outcome.status, outcome.code) == ("killed", -signal.SIGKILL)
    assert time.monotonic() - begin < 15


def test_sleeping_and_ignoring_signals_does_not_help() -> None:
    source = (
        "import signal, time\n"
        "for n in range(1, 65):\n"
        "    try: signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError): pass\n"
        "time.sleep(1000)"
    )
    assert run_python(source, limits=Limits(seconds=0.5)).status == "timeout"


def test_a_fork_bomb_is_small_and_ends() -> None:
    mark = f"everlong-bomb-{os.getpid()}"
    source = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        f"    os.execv('/bin/sh', ['sh', '-c', 'f() {{ f | f & }}; f; sleep 60; : {mark}'])\n"
        "while True:\n"
        "    try: os.fork()\n"
        "    except OSError: time.sleep(0.01)\n"
    )
    before = len(processes_with("/work/main.py"))
    seen: list[int] = []
    stop = threading.Event()

    def count() -> None:
        while not stop.wait(0.1):
            seen.append(len(processes_with("/work/main.py")) + len(processes_with(mark)))

    watcher = threading.Thread(target=count)
    watcher.start()
    outcome = run_python(source, limits=Limits(seconds=1.5))
    stop.set()
    watcher.join()
    assert outcome.status == "timeout"
    assert 2 <= max(seen) - before <= 20
    ended(lambda: len(processes_with("/work/main.py")) > before or processes_with(mark))


def test_nothing_outlives_the_caller() -> None:
    mark = f"everlong-orphan-{os.getpid()}"
    source = f"import os; os.execv('/bin/sh', ['sh', '-c', 'sleep 60; : {mark}'])"
    caller = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from everlong.code.sandbox import *\n"
            f"run_python({source!r}, limits=Limits(seconds=60))",
        ]
    )
    deadline = time.monotonic() + 20
    while not processes_with(f": {mark}"):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    caller.kill()
    caller.wait()
    ended(lambda: [p for p in processes_with(mark) if "sleep 60" in p])


def ended(what: object) -> None:
    deadline = time.monotonic() + 5
    while what():  # type: ignore[operator]
        assert time.monotonic() < deadline, "something is left"
        time.sleep(0.05)


def test_nothing_outlives_the_run() -> None:
    mark = f"everlong-daemon-{os.getpid()}"
    source = (
        "import os, sys\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    if os.fork() == 0:\n"
        "        null = os.open('/dev/null', os.O_RDWR)\n"
        "        for n in (0, 1, 2): os.dup2(null, n)\n"
        f"        os.execv('/bin/sh', ['sh', '-c', 'sleep 600; : {mark}'])\n"
        "    os._exit(0)\n"
        "print('started')"
    )
    outcome = run_python(source, limits=SHORT)
    assert (outcome.status, outcome.stdout) == ("ok", "started\n")
    assert outcome.seconds < 3
    ended(lambda: processes_with(mark))


def test_a_daemon_that_holds_the_output_does_not_hold_the_caller() -> None:
    source = "import os, time\nif os.fork() == 0:\n    time.sleep(600)\nprint('started')"
    outcome = run_python(source, limits=SHORT)
    assert (outcome.status, outcome.stdout) == ("ok", "started\n")
    assert outcome.seconds < 4


def test_memory_is_limited() -> None:
    assert "MemoryError" in attempt("x = bytearray(2 << 30)")
    source = "x = []\nwhile True: x.append(bytearray(1 << 20))"
    outcome = run_python(source, limits=SHORT)
    assert outcome.status in ("failed", "killed")


def test_output_is_limited() -> None:
    outcome = run_python("while True: print('x' * 10000)", limits=SHORT)
    assert outcome.status == "output"
    assert len(outcome.stdout) <= SHORT.output


def test_disk_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert "OSError" in attempt(
        "import os\nfor n in range(100):\n    open(f'/work/{n}', 'wb').write(bytes(1 << 20))"
    )
    assert "OSError" in attempt("for n in range(10000):\n    open(f'/tmp/{n}', 'w').close()")
    outcome = run_python("open('/work/x', 'wb').write(bytes(40 << 20))", limits=SHORT)
    assert outcome.status in ("failed", "killed")
    assert not list(tmp_path.iterdir()), "nothing is left behind"


def test_files_and_recursion_are_limited() -> None:
    assert "OSError" in attempt("x = [open('/dev/null') for _ in range(1000)]")
    deep = "import sys\nsys.setrecursionlimit(10**9)\ndef f(): f()\nf()"
    assert run_python(deep, limits=SHORT).status in ("failed", "killed", "timeout")


def test_other_processes_are_out_of_reach() -> None:
    child = subprocess.Popen(["sleep", "60"])
    try:
        for target in (child.pid, os.getpid(), os.getppid()):
            assert "ProcessLookupError" in attempt(f"import os\nos.kill({target}, 9)")
        run_python("import os\nos.kill(-1, 9)", limits=SHORT)
        assert child.poll() is None
        # The first process cannot be killed from inside, nor traced.
        attempt("import os\nos.kill(1, 9)")
        assert (
            said("import ctypes\nlibc = ctypes.CDLL(None)\nprint(libc.ptrace(16, 1, 0, 0))") == "-1"
        )
    finally:
        child.kill()
        child.wait()


def test_no_privileges() -> None:
    libc = "import ctypes\nlibc = ctypes.CDLL(None)\n"
    assert said("import os; print(os.getuid() != 0, os.geteuid() != 0)") == "True True"
    for call in ("setuid(0)", "setgid(0)"):
        assert "PermissionError" in attempt(f"import os\nos.{call}")
    assert said(libc + "print(libc.mount(b'tmpfs', b'/work', b'tmpfs', 0, None))") == "-1"
    assert said(libc + "print(libc.unshare(0x20000))") == "-1"  # its own mounts
    assert said(libc + "print(libc.umount2(b'/work', 2))") == "-1"
    assert said(libc + "print(libc.prctl(39, 0, 0, 0, 0))") == "1"  # no new privileges


def test_many_at_once() -> None:
    def one(n: int) -> Outcome:
        return run_python(f"print({n})", limits=SHORT)

    with ThreadPoolExecutor(8) as pool:
        outcomes = list(pool.map(one, range(40)))
    assert [o.stdout for o in outcomes] == [f"{n}\n" for n in range(40)]


@pytest.fixture
def unprobed(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    sandbox._probe_once.cache_clear()
    yield monkeypatch
    sandbox._probe_once.cache_clear()


@pytest.mark.parametrize(
    ("line", "broken"),
    [
        ("_check(_libc.unshare(kinds)", "_check(-1"),
        ('_check(_libc.syscall(call, b".", b".")', "_check(-1"),
        ('    _check(done, f"a read-only view', '    _check(-1, f"a read-only view'),
    ],
)
def test_nothing_runs_where_the_system_says_no(
    unprobed: pytest.MonkeyPatch, tmp_path: Path, line: str, broken: str
) -> None:
    source = sandbox._LAUNCHER.read_text()
    assert line in source
    launcher = tmp_path / "confined.py"
    launcher.write_text(source.replace(line, broken))
    unprobed.setattr(sandbox, "_LAUNCHER", launcher)
    with pytest.raises(SandboxError, match="cannot be confined here, so none is run"):
        run_python("print('ran')")


@pytest.mark.parametrize(
    ("line", "broken", "escape"),
    [
        ("| _CLONE_NEWPID | _CLONE_NEWNET", "| _CLONE_NEWPID", "connecting to a port"),
        ("_CLONE_NEWIPC | _CLONE_NEWPID", "_CLONE_NEWIPC", "seeing processes outside"),
        ("size=1m,mode=755", "size=1m,mode=777", None),
    ],
)
def test_a_wall_with_a_hole_is_noticed(
    unprobed: pytest.MonkeyPatch, tmp_path: Path, line: str, broken: str, escape: str | None
) -> None:
    source = sandbox._LAUNCHER.read_text()
    assert line in source
    launcher = tmp_path / "confined.py"
    launcher.write_text(source.replace(line, broken))
    unprobed.setattr(sandbox, "_LAUNCHER", launcher)
    if escape is None:  # the mount is read-only in any case
        assert run_python("print('ran')").stdout == "ran\n"
    elif os.geteuid() == 0:
        with pytest.raises(SandboxError, match=f"does not confine here: .*{escape}"):
            run_python("print('ran')")
