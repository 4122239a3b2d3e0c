"""The inside of the sandbox: confines itself, then runs one program.

Started as a script by :mod:`everlong.code.sandbox`, with the standard library only. It reads a
request as JSON from its standard input and tells on the descriptor named by its argument how the
program ended, or why nothing was run. In order:

1. own mounts, processes, network, IPC and host name; an ordinary user gets a user namespace, too;
2. a new root: a read-only file system in memory with read-only views of the system's programs and
   libraries, two small writable folders, and four harmless devices;
3. as the first process of its own process namespace: no privileges, no way to get any, limits;
   when it ends, for whatever reason, the system ends every process that the program left behind.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import signal
import sys
from typing import Any, NoReturn

_CLONE_NEWNS, _CLONE_NEWUTS, _CLONE_NEWIPC = 0x00020000, 0x04000000, 0x08000000
_CLONE_NEWUSER, _CLONE_NEWPID, _CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_MS_RDONLY, _MS_REMOUNT = 1, 32
_MNT_DETACH = 2
_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_SET_NO_NEW_PRIVS = 1, 4, 38
_AT_FDCWD, _AT_RECURSIVE = -100, 0x8000
_ATTR_RDONLY, _ATTR_NOSUID, _ATTR_NODEV = 1, 2, 4
# The same number on every architecture.
_SYS_MOUNT_SETATTR = 442
_SYS_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
_DEVICES = ("null", "zero", "random", "urandom")
_FIRST_UID, _UIDS = 600_000, 100_000
_NOBODY = 65534

_libc = ctypes.CDLL(None, use_errno=True)


class Refused(Exception):
    """Something that confines is not to be had here."""


def main(report: int) -> int:
    """Run what the request says; the exit status is of no interest."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    request = json.loads(sys.stdin.buffer.read())
    try:
        root_user = _separate()
        _build_root(request, root_user)
    except (Refused, OSError) as error:
        _tell(report, {"refused": str(error)})
        return 1
    alive, held = os.pipe()  # closed by the system when this process ends
    child = os.fork()  # the first process of the new process namespace
    if child == 0:
        os.close(held)
        _be_first(report, request, root_user, alive)
    os.waitpid(child, 0)
    return 0


def _separate() -> bool:
    """Leave the namespaces of the others; whether this is the system's root user."""
    user, group = os.geteuid(), os.getegid()
    kinds = _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWPID | _CLONE_NEWNET
    if user != 0:
        kinds |= _CLONE_NEWUSER
    _check(_libc.unshare(kinds), "namespaces of its own (unshare)")
    if user != 0:
        # Nothing in here makes further user namespaces, through which much of the kernel is in
        # reach.
        for name, text in (
            ("/proc/self/setgroups", "deny"),
            ("/proc/self/uid_map", f"{user} {user} 1"),
            ("/proc/self/gid_map", f"{group} {group} 1"),
            ("/proc/sys/user/max_user_namespaces", "0"),
        ):
            with open(name, "w") as file:
                file.write(text)
    _mount(None, "/", None, _MS_REC | _MS_PRIVATE)
    return user == 0


def _build_root(request: dict[str, Any], root_user: bool) -> None:
    root = request["scratch"]
    _mount("tmpfs", root, "tmpfs", _MS_NOSUID | _MS_NODEV, "size=1m,mode=755")
    for path in request["visible"]:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(os.readlink(path), root + path)
        elif os.path.isdir(path):
            os.makedirs(root + path, exist_ok=True)
            _show(path, root + path)
        elif os.path.exists(path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.close(os.open(root + path, os.O_CREAT | os.O_WRONLY))
            _show(path, root + path)
    os.makedirs(root + "/dev", exist_ok=True)
    for name in _DEVICES:
        os.close(os.open(f"{root}/dev/{name}", os.O_CREAT | os.O_WRONLY))
        _mount(f"/dev/{name}", f"{root}/dev/{name}", None, _MS_BIND)
    disk = request["limits"]["disk"]
    for name in ("/work", "/tmp"):
        os.makedirs(root + name, exist_ok=True)
        options = f"size={disk},nr_inodes=4096,mode=1777"
        _mount("tmpfs", root + name, "tmpfs", _MS_NOSUID | _MS_NODEV, options)
    for name, text in request["files"].items():
        path = f"{root}/work/{name}"
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        os.chmod(path, 0o644)
    _mount(None, root, None, _MS_REMOUNT | _MS_BIND | _MS_RDONLY | _MS_NOSUID | _MS_NODEV)
    os.chdir(root)
    call = _SYS_PIVOT_ROOT.get(os.uname().machine)
    if call is None:
        raise Refused(f"a new root is not known to be possible on {os.uname().machine}")
    _check(_libc.syscall(call, b".", b"."), "a new root (pivot_root)")
    _check(_libc.umount2(b".", _MNT_DETACH), "leaving the old root (umount)")
    os.chdir("/work")


def _show(source: str, target: str) -> None:
    """A view of a folder or file that cannot be written through, and whose parts cannot either."""
    _mount(source, target, None, _MS_BIND | _MS_REC)
    attributes = (ctypes.c_uint64 * 4)(_ATTR_RDONLY | _ATTR_NOSUID | _ATTR_NODEV, 0, 0, 0)
    done = _libc.syscall(
        _SYS_MOUNT_SETATTR,
        _AT_FDCWD,
        target.encode(),
        _AT_RECURSIVE,
        attributes,
        ctypes.sizeof(attributes),
    )
    _check(done, f"a read-only view of {source} (mount_setattr; Linux 5.12)")


def _be_first(report: int, request: dict[str, Any], root_user: bool, alive: int) -> NoReturn:
    """The namespace's first process: start the program, tell how it ended, end with everything."""
    try:
        if root_user:
            _become_nobody()
        # After the change of user, which would cancel it.
        _check(_libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL), "ending with the caller (prctl)")
        if select.select([alive], [], [], 0)[0]:
            os._exit(0)  # the launcher had ended before
        _check(_libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "giving up privileges (prctl)")
        # Not to be traced by the program, which runs as the same user.
        _libc.prctl(_PR_SET_DUMPABLE, 0)
        source = os.memfd_create("stdin")
        os.write(source, request["stdin"].encode())
        os.lseek(source, 0, os.SEEK_SET)
        program = os.fork()
        if program == 0:
            _become(request, source)
        while True:
            ended, status = os.wait()
            if ended == program:
                break
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        _tell(report, {"code": os.waitstatus_to_exitcode(status), "memory": usage.ru_maxrss << 10})
    except BaseException as error:
        _tell(report, {"refused": str(error)})
    os._exit(0)


def _become_nobody() -> None:
    """Root without privileges is still the owner of the system's files: be somebody else.

    A number of its own, so that its processes are counted alone.
    """
    os.setgroups([])
    number = _FIRST_UID + int.from_bytes(os.urandom(4), "little") % _UIDS
    for user in (number, _NOBODY):  # containers may not have large ones
        try:
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            return
        except OSError:
            continue
    raise Refused("no user without privileges can be had (setresuid)")


def _become(request: dict[str, Any], source: int) -> NoReturn:
    """The program itself."""
    try:
        os.setsid()
        os.dup2(source, 0)
        limits = request["limits"]
        for what, most in (
            (resource.RLIMIT_AS, limits["memory"]),
            (resource.RLIMIT_CPU, limits["cpu_seconds"]),
            (resource.RLIMIT_FSIZE, limits["disk"]),
            (resource.RLIMIT_NOFILE, limits["open_files"]),
            (resource.RLIMIT_NPROC, limits["processes"]),
            (resource.RLIMIT_CORE, 0),
            (resource.RLIMIT_MEMLOCK, 0),
            (resource.RLIMIT_MSGQUEUE, 0),
        ):
            resource.setrlimit(what, (most, most))
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.closerange(3, 256)
        os.execve(request["argv"][0], request["argv"], request["environment"])
    except BaseException as error:
        os.write(2, f"cannot be started: {error}\n".encode())
    os._exit(127)


def _mount(source: str | None, target: str, kind: str | None, flags: int, data: str = "") -> None:
    done = _libc.mount(
        source.encode() if source else None,
        target.encode(),
        kind.encode() if kind else None,
        flags,
        data.encode() if data else None,
    )
    _check(done, f"mounting {target}")


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise Refused(f"{what}: {os.strerror(number)}")


def _tell(report: int, what: dict[str, Any]) -> None:
    os.write(report, json.dumps(what).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1])))
