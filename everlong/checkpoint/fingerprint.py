"""What keys and values depend on, in 32 bytes.

Whatever was derived from a model (keys and values of blocks, routing indexes) carries this
fingerprint and is used only with an equal one. It covers the weights as they are used, the
tokenizer with its chat template, the architecture with its positional scheme, and the precision of
keys and values.

Reading gigabytes to hash them would cost more than loading them, so the digest of a file's content
is kept in the cache folder beside what identifies the content cheaply: path, size, times and inode.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

from everlong.checkpoint.checkpoint import Checkpoint
from everlong.checkpoint.mapping import MappedFile
from everlong.files import FileLock, atomic_write, cache_dir
from everlong.model.config import ModelConfig
from everlong.tokenizer import Tokenizer

_VERSION = b"everlong fingerprint 1"
_CACHE_NAME = "digests.json"
_CACHE_ENTRIES = 1000
_PIECE_BYTES = 16 << 20
# A file written less than this ago might be written again without its times showing it.
_SETTLED_NS = 100_000_000


def fingerprint(
    checkpoint: Checkpoint, tokenizer: Tokenizer, *, weights: str, kv_dtype: str
) -> bytes:
    """The fingerprint of a model as it runs, 32 bytes.

    Args:
        checkpoint: where the weights come from.
        tokenizer: whose ids the model reads.
        weights: names the packing of the weights and its rule of rounding, if it rounds; packings
            with equal values share a name.
        kv_dtype: precision of keys and values.
    """
    digest = hashlib.blake2b(_VERSION, digest_size=32)
    parts = [
        weights_digest(checkpoint),
        tokenizer.fingerprint(),
        _canonical(checkpoint.config),
        weights.encode(),
        kv_dtype.encode(),
    ]
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    return digest.digest()


def weights_digest(checkpoint: Checkpoint) -> bytes:
    """Digest of the content of the files that hold the weights, 32 bytes."""
    return files_digest(checkpoint.files)


def files_digest(files: Sequence[MappedFile]) -> bytes:
    """Digest of the content of files, in their order, 32 bytes.

    A file is hashed when it is new or changed; else its digest comes from the cache folder, where
    an unusable or unwritable cache only costs time.
    """
    cache = _read_cache()
    found: dict[str, str] = {}
    digests: list[bytes] = []
    for file in files:
        key = " ".join(map(str, (*file.identity, file.path.resolve())))
        known = cache.get(key) if file.is_unchanged() else None
        value = known or _content_digest(file).hex()
        if file.is_unchanged() and time.time_ns() - file.identity.changed_ns > _SETTLED_NS:
            found[key] = value
        digests.append(bytes.fromhex(value))
    if new := {key: value for key, value in found.items() if key not in cache}:
        _write_cache(new)
    return hashlib.blake2b(b"".join(digests), digest_size=32).digest()


def _canonical(config: ModelConfig) -> bytes:
    """The architecture as text that depends on nothing else."""
    values = dataclasses.asdict(config)
    del values["family"]  # names only
    return json.dumps(values, sort_keys=True).encode()


def _content_digest(file: MappedFile) -> bytes:
    """Digest over the digests of pieces, so that all processors can work on it."""

    def piece(start: int) -> bytes:
        view = memoryview(file.buffer)[start : start + _PIECE_BYTES]
        return hashlib.blake2b(view, digest_size=32).digest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        pieces = list(pool.map(piece, range(0, file.size, _PIECE_BYTES)))
    file.release()
    digest = hashlib.blake2b(file.size.to_bytes(8, "little"), digest_size=32)
    digest.update(b"".join(pieces))
    return digest.digest()


def _read_cache() -> dict[str, str]:
    try:
        values = json.loads((cache_dir() / _CACHE_NAME).read_bytes())
        return {key: value for key, value in values.items() if len(bytes.fromhex(value)) == 32}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_cache(new: dict[str, str]) -> None:
    path = cache_dir() / _CACHE_NAME
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{_CACHE_NAME}.lock")):
            entries = list((_read_cache() | new).items())[-_CACHE_ENTRIES:]
            atomic_write(path, json.dumps(dict(entries), indent=1).encode(), mode=0o600)
    except OSError:
        return  # a read-only cache folder; the digest is computed again next time
