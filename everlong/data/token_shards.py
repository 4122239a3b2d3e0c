"""Token shards: a folder of tokenized documents that is mapped, not read.

A folder has an ``index.json`` and, for each shard, the tokens of its documents one after the other
(``00000.tokens``, little-endian uint16 or uint32) and where each begins (``00000.starts``, uint64,
with the end as the last). ``00000.learn`` has a byte for each token, 1 where a model shall learn to
predict it, in sets in which not all are to be learned, such as conversations. ``00000.checksums``
has those of the blocks of these files (``checked_array.py``), which are compared as they are read.
The index is written last: a folder without one is not complete.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from everlong.config import from_plain
from everlong.data.checked_array import CheckedArray, block_checksums, blocks_in
from everlong.errors import ConfigError, DataError
from everlong.files import atomic_write, atomic_writer, sha256_file

INDEX = "index.json"
_FORMAT = 2
_SHARD_TOKENS = 1 << 26
_KINDS = ("tokens", "starts", "learn")
_CHECKSUMS = "checksums"
_TYPES: dict[str, np.dtype[Any]] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}


@dataclass(frozen=True)
class ShardFile:
    """One shard, as the index describes it."""

    name: str
    documents: int
    tokens: int
    sha256: str
    """Of the file with the checksums of the others."""


@dataclass(frozen=True)
class ShardIndex:
    """What a folder holds: its ``index.json``."""

    format: int
    tokenizer: str
    """Digest of the tokenizer that made the tokens, in hexadecimal."""
    vocab_size: int
    dtype: str
    """``uint16`` or ``uint32``."""
    partly_learned: bool
    """Whether there are tokens that are context only."""
    shards: tuple[ShardFile, ...]


class TokenShards:
    """The documents of a folder.

    Args:
        folder: as :class:`ShardWriter` leaves it.

    Raises:
        DataError: there is no complete set of shards, or files are not as long as the index says,
            or their checksums are damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / INDEX
        try:
            self.index = from_plain(ShardIndex, json.loads(path.read_bytes()))
        except FileNotFoundError:
            raise DataError(
                f"{folder} has no {INDEX}: it is no folder of token shards, or writing it was "
                "stopped before its end; make it anew"
            ) from None
        except (OSError, ValueError, RecursionError, ConfigError) as error:
            raise DataError(f"{path} cannot be read: {error}") from None
        if self.index.format != _FORMAT:
            raise DataError(
                f"{path} has format {self.index.format}, and this version reads {_FORMAT}; make "
                "the shards anew"
            )
        if self.index.dtype not in _TYPES:
            raise DataError(f"{path}: dtype {self.index.dtype!r} is none of {', '.join(_TYPES)}")
        self.dtype = _TYPES[self.index.dtype]
        self._shards = [_Shard(self, shard) for shard in self.index.shards]
        self._first = np.cumsum([0, *(shard.documents for shard in self.index.shards)])

    @property
    def documents(self) -> int:
        """How many there are."""
        return int(self._first[-1])

    @property
    def tokens(self) -> int:
        """Of all documents together."""
        return sum(shard.tokens for shard in self.index.shards)

    def length(self, document: int) -> int:
        """Tokens of a document."""
        shard, number = self._place(document)
        return shard.length(number)

    def longest(self) -> tuple[int, int]:
        """Number and tokens of the longest document; of none, zeros."""
        best, tokens, first = 0, 0, 0
        for shard in self._shards:
            lengths = np.diff(shard.starts)
            if len(lengths) and (most := int(lengths.max())) > tokens:
                best, tokens = first + int(lengths.argmax()), most
            first += len(lengths)
        return best, tokens

    def read(self, document: int, start: int, end: int) -> NDArray[np.int64]:
        """Tokens ``start`` to ``end`` of a document, int64.

        Raises:
            DataError: they are not what was written; one is not in the vocabulary.
        """
        shard, number = self._place(document)
        found = shard.part(number, start, end, shard.tokens).astype(np.int64)
        if len(found) and found.max() >= self.index.vocab_size:
            raise DataError(
                f"{self.folder}, document {document:,}: token {found.max()} is not in the "
                f"vocabulary of {self.index.vocab_size:,} that {INDEX} tells; remove the folder "
                "and have it made anew"
            )
        return found

    def learned(self, document: int, start: int, end: int) -> NDArray[np.bool_]:
        """Which of these tokens are to be predicted, bool.

        Raises:
            DataError: the file is damaged.
        """
        if not self.index.partly_learned:
            return np.ones(end - start, dtype=np.bool_)
        shard, number = self._place(document)
        found: NDArray[np.bool_] = shard.part(number, start, end, shard.learn) != 0
        return found

    def _place(self, document: int) -> tuple[_Shard, int]:
        assert 0 <= document < self.documents, f"document {document} of {self.documents}"
        shard = int(np.searchsorted(self._first, document, side="right")) - 1
        return self._shards[shard], document - int(self._first[shard])


class _Shard:
    """The mapped files of one shard."""

    def __init__(self, of: TokenShards, described: ShardFile) -> None:
        self._of, self._described = of, described
        for kind in self._kinds:
            path, wanted = self._path(kind), self._bytes(kind)
            size = path.stat().st_size if path.is_file() else None
            if size != wanted:
                told = "is missing" if size is None else f"has {size:,} bytes"
                raise DataError(f"{path} {told}, and {INDEX} says {wanted:,}; make it anew")
        path = self._path(_CHECKSUMS)
        if not path.is_file() or sha256_file(path) != described.sha256:
            raise DataError(f"{path} is missing or damaged; make the shards anew")

    @cached_property
    def tokens(self) -> CheckedArray:
        return self._map("tokens")

    @cached_property
    def learn(self) -> CheckedArray:
        return self._map("learn")

    @cached_property
    def starts(self) -> NDArray[np.uint64]:
        found = self._map("starts").read(0, self._described.documents + 1)
        rising = bool((found[1:] >= found[:-1]).all())
        if found[0] != 0 or found[-1] != self._described.tokens or not rising:
            raise DataError(f"{self._path('starts')} is damaged; make the shards anew")
        return found

    def length(self, number: int) -> int:
        return int(self.starts[number + 1]) - int(self.starts[number])

    def part(self, number: int, start: int, end: int, values: CheckedArray) -> NDArray[Any]:
        assert 0 <= start <= end <= self.length(number), f"{start} to {end}"
        first = int(self.starts[number])
        return values.read(first + start, first + end)

    @property
    def _kinds(self) -> Sequence[str]:
        return _KINDS if self._of.index.partly_learned else _KINDS[:2]

    def _bytes(self, kind: str) -> int:
        of = self._described
        items = of.documents + 1 if kind == "starts" else of.tokens
        return items * self._type(kind).itemsize

    def _type(self, kind: str) -> np.dtype[Any]:
        if kind == "starts":
            return np.dtype("<u8")
        return np.dtype("u1") if kind == "learn" else self._of.dtype

    def _path(self, kind: str) -> Path:
        return self._of.folder / f"{self._described.name}.{kind}"

    def _map(self, kind: str) -> CheckedArray:
        before = self._kinds[: self._kinds.index(kind)]
        first = sum(blocks_in(self._bytes(one)) for one in before)
        every = np.fromfile(self._path(_CHECKSUMS), dtype="<u8")
        checksums = every[first : first + blocks_in(self._bytes(kind))]
        return CheckedArray(self._path(kind), self._type(kind), checksums)


class ShardWriter:
    """Writes documents into a folder, one shard at a time; nothing but a shard is in memory.

    Args:
        folder: must not hold an index yet; it is made if need be.
        tokenizer: digest of the tokenizer.
        vocab_size: tokens are below it.
        partly_learned: whether documents come with what is to be learned.
        shard_tokens: tokens of a shard, and at most the last document more.

    Raises:
        ConfigError: the folder has shards already.
    """

    def __init__(
        self,
        folder: Path,
        *,
        tokenizer: str,
        vocab_size: int,
        partly_learned: bool = False,
        shard_tokens: int = _SHARD_TOKENS,
    ) -> None:
        if (folder / INDEX).exists():
            raise ConfigError(f"{folder} holds token shards already; name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._tokenizer, self._vocab_size = folder, tokenizer, vocab_size
        self._partly, self._most = partly_learned, shard_tokens
        self._dtype = "uint16" if vocab_size <= 1 << 16 else "uint32"
        self._shards: list[ShardFile] = []
        self._empty()

    def add(self, tokens: Sequence[int], learned: Iterable[bool] | None = None) -> None:
        """Append a document.

        Args:
            tokens: of it; with the token that ends documents, where the model shall learn to end.
            learned: one for each token; given exactly if the shards are ``partly_learned``.

        Raises:
            DataError: a token is not in the vocabulary.
        """
        assert (learned is not None) == self._partly, "what is learned, for partly learned shards"
        array = np.asarray(tokens, dtype=np.int64)
        if len(array) and not 0 <= array.min() <= array.max() < self._vocab_size:
            raise DataError(
                f"tokens from {array.min()} to {array.max()} do not fit a vocabulary of "
                f"{self._vocab_size:,}"
            )
        self._tokens.append(array.astype(_TYPES[self._dtype]))
        if learned is not None:
            self._learn.append(np.fromiter(learned, dtype=np.uint8, count=len(array)))
        self._ends.append(self._ends[-1] + len(array))
        if self._ends[-1] >= self._most:
            self._write()

    def close(self) -> TokenShards:
        """Write what is left, and the index; returns the shards."""
        if len(self._ends) > 1 or not self._shards:
            self._write()
        index = ShardIndex(
            _FORMAT,
            self._tokenizer,
            self._vocab_size,
            self._dtype,
            self._partly,
            tuple(self._shards),
        )
        atomic_write(self._folder / INDEX, json.dumps(asdict(index), indent=1).encode())
        return TokenShards(self._folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.close()

    def _empty(self) -> None:
        self._tokens: list[NDArray[Any]] = []
        self._learn: list[NDArray[np.uint8]] = []
        self._ends = [0]

    def _write(self) -> None:
        name = f"{len(self._shards):05d}"
        parts = {
            "tokens": self._tokens,
            "starts": [np.array(self._ends, dtype="<u8")],
            "learn": self._learn,
        }
        checksums = []
        for kind in _KINDS if self._partly else _KINDS[:2]:
            path = self._folder / f"{name}.{kind}"
            with atomic_writer(path) as file:
                for array in parts[kind]:
                    file.write(array.tobytes())
            checksums.append(block_checksums(path))
        path = self._folder / f"{name}.{_CHECKSUMS}"
        atomic_write(path, np.concatenate(checksums).tobytes())
        documents, tokens = len(self._ends) - 1, self._ends[-1]
        self._shards.append(ShardFile(name, documents, tokens, sha256_file(path)))
        self._empty()
