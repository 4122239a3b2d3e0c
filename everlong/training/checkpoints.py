"""Checkpoints of a run: whole or not there at all, checked when they are read.

A checkpoint is a folder ``step-00000100`` with tensors in safetensors files, written and read by
torch's distributed checkpoint (by the first process, as all have the same ones);
``state.json`` with the rest; and ``manifest.json`` with the checksum of every file, written last.
All lie in a hidden folder that takes the checkpoint's name when it is complete.

Writing goes on beside training: tensors are copied first, which takes no longer than a step.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import (
    HuggingFaceStorageReader,
    HuggingFaceStorageWriter,
)
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from everlong.errors import CheckpointError
from everlong.files import atomic_write, sha256_file, sync_directory

_NAME = re.compile(r"step-(\d{8,})")
_MANIFEST = "manifest.json"
_STATE = "state.json"
_FILE_BYTES = 128 << 20
"""Of a file's tensors, unless one alone is larger."""


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: of them; made if need be. What a crash left half written or half removed goes.
        keep: so many of the latest stay, and that with the lowest validation loss.
        say: told of one that could not be written, where a later one could.
    """

    def __init__(
        self, folder: Path, keep: int = 2, say: Callable[[str], None] = lambda text: None
    ) -> None:
        self._folder, self._keep, self._say = folder, keep, say
        for left in (*folder.glob(".step-*.partial"), *folder.glob(".step-*.dropped")):
            shutil.rmtree(left, ignore_errors=True)
        self._writer = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._pending: Future[None] | None = None

    @property
    def failed(self) -> bool:
        """Whether the last one could not be written; :meth:`save` then tries this step's."""
        return (
            self._pending is not None and self._pending.done() and bool(self._pending.exception())
        )

    def save(
        self, step: int, tensors: Iterable[tuple[str, Tensor]], state: Mapping[str, Any]
    ) -> None:
        """Begin to write a checkpoint; waits for the one before it.

        Args:
            step: after which it is.
            tensors: by name, each copied as it comes; they may change after the call.
            state: plain data; its ``validation_loss``, where there is one, says how good it is
                among those whose ``judged_by`` is the same.

        Raises:
            CheckpointError: the one before could not be written, nor could this one.
        """
        try:
            self.wait()
            before = None
        except CheckpointError as error:
            before = error
        copies = {name: value.detach().to("cpu", copy=True) for name, value in tensors}
        plain = json.dumps(state)
        self._pending = self._writer.submit(self._write, step, copies, plain)
        if before is not None:  # what is in memory is more than what is on the disk: once more
            self.wait()
            self._say(f"{before}; that of step {step:,} is written")

    def wait(self) -> None:
        """Wait until what was saved is on the disk.

        Raises:
            CheckpointError: it could not be written.
        """
        if self._pending is None:
            return
        try:
            self._pending.result()
        finally:
            if self._pending.done():  # else Ctrl-C ended the waiting, and not the writing
                self._pending = None

    def close(self) -> None:
        """Wait, and end the thread."""
        try:
            self.wait()
        finally:
            self._writer.shutdown()

    def _write(self, step: int, tensors: dict[str, Tensor], state: str) -> None:
        final = path_of(self._folder, step)
        partial = final.with_name(f".{final.name}.partial")
        try:
            self._write_as(final, partial, tensors, state)
            self._drop(step)
        except (OSError, CheckpointException) as error:
            shutil.rmtree(partial, ignore_errors=True)  # a full disk needs the room
            raise CheckpointError(
                f"the checkpoint of step {step:,} could not be written: {_reason(error)}; those "
                "before it are whole; make room on the disk, and go on with --resume"
            ) from error

    def _write_as(self, final: Path, partial: Path, tensors: dict[str, Tensor], state: str) -> None:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        with _alone():
            writer = HuggingFaceStorageWriter(
                str(partial), fqn_to_index_mapping=_files(tensors), save_distributed=True
            )
            save(tensors, storage_writer=writer, no_dist=True)
        atomic_write(partial / _STATE, state.encode())
        for path in partial.iterdir():
            _sync(path)
        manifest = {path.name: sha256_file(path) for path in sorted(partial.iterdir())}
        atomic_write(partial / _MANIFEST, json.dumps(manifest, indent=1).encode())
        shutil.rmtree(final, ignore_errors=True)  # of a run that was resumed before it
        os.replace(partial, final)
        sync_directory(self._folder)

    def _drop(self, written: int) -> None:
        """Remove checkpoints that are not to be kept, now that this one is written."""
        states = {}
        for step in steps_in(self._folder):
            with suppress(CheckpointError):  # of a damaged one, which counts for nothing
                states[step] = read_state(path_of(self._folder, step))
        kept = best_of(states)
        for step in [*states][: -self._keep]:
            if step not in (kept, written):
                # Out of sight first: half a checkpoint must not be found.
                path = path_of(self._folder, step)
                gone = path.with_name(f".{path.name}.dropped")
                os.replace(path, gone)
                shutil.rmtree(gone, ignore_errors=True)


def steps_in(folder: Path) -> list[int]:
    """Steps of which a folder has a checkpoint, ascending."""
    if not folder.is_dir():
        return []
    found = (_NAME.fullmatch(path.name) for path in folder.iterdir())
    return sorted(int(match[1]) for match in found if match)


def path_of(folder: Path, step: int) -> Path:
    """Where a checkpoint lies."""
    return folder / f"step-{step:08d}"


def latest(folder: Path, say: Callable[[str], None] = lambda text: None) -> int | None:
    """The last step whose checkpoint is whole; None: there is none.

    Args:
        folder: of the checkpoints.
        say: told about those that are damaged.
    """
    for step in reversed(steps_in(folder)):
        try:
            verify(path_of(folder, step))
        except CheckpointError as error:
            say(f"{error}; it is passed over")
        else:
            return step
    return None


def best(folder: Path) -> int | None:
    """The step of the checkpoint with the lowest validation loss; None: no step had one.

    Raises:
        CheckpointError: one cannot be read.
    """
    return best_of({step: read_state(path_of(folder, step)) for step in steps_in(folder)})


def best_of(states: Mapping[int, Mapping[str, Any]]) -> int | None:
    """The same, of the states of checkpoints by their steps.

    Losses of another objective than the last one's cannot be compared with it.
    """
    judged_by = states[max(states)].get("judged_by") if states else None
    losses = {
        step: loss
        for step, state in states.items()
        if (loss := state.get("validation_loss")) is not None
        and math.isfinite(loss)
        and state.get("judged_by") == judged_by
    }
    return min(losses, key=lambda step: (losses[step], step)) if losses else None


def set_aside(folder: Path, behind: int) -> None:
    """Rename the checkpoints behind a step to ``….damaged``: a run goes on before them."""
    for step in steps_in(folder):
        if step > behind:
            path = path_of(folder, step)
            other = path.with_name(f"{path.name}.damaged")
            shutil.rmtree(other, ignore_errors=True)
            os.replace(path, other)


def verify(path: Path) -> None:
    """Compare a checkpoint with its checksums.

    Raises:
        CheckpointError: it is not what was written.
    """
    try:
        manifest = json.loads((path / _MANIFEST).read_bytes())
        for name, wanted in manifest.items():
            if sha256_file(path / name) != wanted:
                raise CheckpointError(f"{path / name} is not what was written")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def read_state(path: Path) -> dict[str, Any]:
    """What a checkpoint has besides tensors.

    Raises:
        CheckpointError: it cannot be read.
    """
    try:
        found: dict[str, Any] = json.loads((path / _STATE).read_bytes())
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint, whole, by name.

    Raises:
        CheckpointError: they cannot be read.
    """
    reader = HuggingFaceStorageReader(str(path))
    try:
        described = reader.read_metadata().state_dict_metadata
        tensors = {
            name: torch.empty(of.size, dtype=of.properties.dtype)
            for name, of in described.items()
            if isinstance(of, TensorStorageMetadata)
        }
        with _alone():
            load(tensors, storage_reader=reader, no_dist=True)
    except (
        OSError,
        ValueError,
        RuntimeError,
        KeyError,
        CheckpointException,
        SafetensorError,
    ) as error:
        raise CheckpointError(f"the tensors of {path} cannot be read: {_reason(error)}") from None
    return tensors


@contextmanager
def _alone() -> Iterator[None]:
    """Silences the advice to initialize torch.distributed: one process needs none of it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def _reason(error: BaseException) -> BaseException:
    """What went wrong: torch wraps it, with a traceback of each process."""
    if isinstance(error, CheckpointException):
        for wrapped, _ in error.failures.values():
            return wrapped
    return error


def _files(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """In which file each tensor lies, counted from 1; a file is put together in memory."""
    found, number, size = {}, 1, 0
    for name, value in tensors.items():
        if size and size + value.nbytes > _FILE_BYTES:
            number, size = number + 1, 0
        found[name] = number
        size += value.nbytes
    return found


def _sync(path: Path) -> None:
    with suppress(IsADirectoryError), path.open("rb") as file:
        os.fsync(file.fileno())
