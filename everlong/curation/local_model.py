"""The language models that steps ask: found, told by their contents, computed on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from everlong.errors import CheckpointError, ConfigError
from everlong.files import sha256_file


def path_of(model: str, step: str) -> Path:
    """Where a model is.

    Args:
        model: a name of the catalog, or a folder or GGUF file.
        step: kind of the step that asks it.

    Raises:
        ConfigError: it is not on this machine. Not the error of a checkpoint: it would fail for
            every document, so it stops the run.
    """
    from everlong.checkpoint.catalog import resolve

    try:
        return resolve(model)
    except CheckpointError as error:
        raise unusable(error, step) from None


def digests(model: str, step: str) -> dict[str, str]:
    """SHA-256 of a model's files; see :class:`everlong.curation.step.ReadingStep`."""
    path = path_of(model, step)
    files = [path] if path.is_file() else sorted(one for one in path.iterdir() if one.is_file())
    return {one.name: sha256_file(one) for one in files}


def unusable(error: CheckpointError, step: str) -> ConfigError:
    """The model of a step cannot be used: what stops a run."""
    return ConfigError(f"the model of the {step} step: {error}")


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one thread: there are as many processes as cores, and sums are always the same.

    The native kernels keep the number that there is when a model is loaded.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
