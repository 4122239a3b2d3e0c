"""Compiles the native kernels and finds the result again.

``python -m everlong.model.native.build`` builds ahead of time; otherwise the first load does.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import torch

from everlong.device import cpu_features
from everlong.files import cache_dir

_SOURCES = Path(__file__).parent
# GCC 12 reports its own intrinsics as uninitialised.
_WARNINGS = ("-Wall", "-Wextra", "-Wno-uninitialized", "-Wno-maybe-uninitialized")
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-fopenmp", *_WARNINGS)
_TIMEOUT = 120.0


def compiler() -> str | None:
    """Path of the C++ compiler: $CXX, else c++, g++ or clang++; None where there is none."""
    for name in (os.environ.get("CXX"), "c++", "g++", "clang++"):
        if name and (found := shutil.which(name)):
            return found
    return None


def _openmp_runtime() -> Path | None:
    """PyTorch's own OpenMP library: with it the kernels share PyTorch's threads.

    A second runtime would keep a second pool of spinning threads on the same cores.
    """
    folder = Path(torch.__file__).parent / "lib"
    return next(iter(sorted(folder.glob("libgomp*.so*"))), None)


def library_path() -> Path:
    """Where the library for these sources, this compiler, PyTorch and processor is kept."""
    digest = hashlib.blake2b(digest_size=12)
    for source in sorted([*_SOURCES.glob("*.h"), *_SOURCES.glob("*.cpp")]):
        digest.update(source.name.encode() + b"\0" + source.read_bytes())
    described = [" ".join(_FLAGS), torch.__version__, platform.node(), compiler() or ""]
    described.append(repr(sorted(torch.cpu.get_capabilities().items())))
    digest.update("\0".join(described).encode())
    return cache_dir() / "native" / f"kernels-{digest.hexdigest()}.so"


def build(target: Path) -> None:
    """Compile the kernels into ``target``, which appears complete or not at all.

    Raises:
        RuntimeError: there is no compiler or OpenMP library, or the compiler failed; the message
            holds its first lines.
    """
    cxx, openmp = compiler(), _openmp_runtime()
    if cxx is None:
        raise RuntimeError("no C++ compiler was found (set CXX, or install g++)")
    if openmp is None:
        raise RuntimeError("PyTorch brings no libgomp here")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        library, objects = Path(folder) / "kernels.so", []
        commands = []
        for source in sorted(_SOURCES.glob("*.cpp")):
            objects.append(str(Path(folder) / f"{source.stem}.o"))
            commands.append([cxx, *_FLAGS, "-c", str(source), "-o", objects[-1]])
        for command in (*commands, [cxx, "-shared", *objects, str(openmp), "-o", str(library)]):
            done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT)
            if done.returncode:
                raise RuntimeError(f"{cxx} failed: " + "\n".join(done.stderr.splitlines()[:8]))
        library.replace(target)


@cache
def find_or_build() -> Path | None:
    """The library, built if need be; None where it cannot be (said once, as a warning).

    ``EVERLONG_NATIVE=0`` turns the kernels off.
    """
    if os.environ.get("EVERLONG_NATIVE") == "0" or not cpu_features().avx512_bf16:
        return None
    target = library_path()
    if not target.exists():
        try:
            build(target)
        except (RuntimeError, OSError, subprocess.TimeoutExpired) as error:
            warnings.warn(
                f"running without native kernels, several times slower: {error}", stacklevel=2
            )
            return None
    return target


if __name__ == "__main__":
    path = find_or_build()
    print(path if path else "no native kernels here: the plain PyTorch path will be used")
    sys.exit(0)
