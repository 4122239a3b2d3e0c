"""Runs of words of evaluation sets, for looking up those of a text.

A run that an evaluation item has is an entry: its hash, and the number of a whole. That is what a
text is compared with to see how much of an item it has: all texts of the item together, or one of
them that is the item for itself. An item with several wholes is there as far as the best of them
is: who copies a question with its answer copies the item, whatever the other options are.

Runs differ in length, and all of them begin with a few words, their opening. Of a text all openings
are looked up at once, first in a table of bits (Bloom 1970, "Space/time trade-offs in hash coding
with allowable errors", with one hash), then among the sorted hashes of the openings; where one is
found, runs of each length are. The index is built once, kept in a file of the cache folder, and
read by every worker.
"""

from __future__ import annotations

import functools
import hashlib
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from everlong.curation.decontamination.evaluation_texts import Item, items_of_file, items_of_task
from everlong.curation.decontamination.word_ngrams import Runs, runs_at, words_of
from everlong.curation.step import Hashes
from everlong.errors import ConfigError
from everlong.files import FileLock, atomic_write, cache_dir

LARGE = 10
"""Entries of a whole, at least, for being an item whatever else there is: a phrase is none."""
_OWNERS = 2
"""Items that may have the same text, which is their own nevertheless: sets overlap."""
_VERSION = 3
"""Of the file, and of how items become hashes."""
_TASKS = Path(__file__).parents[2] / "evaluation"
"""Whose programs decide what tasks ask."""
_MOST_ITEMS = 8
"""That share an entry; which ones more there are does not matter then."""
_BITS_PER_OPENING = 16
_LENGTH_MIX = 0xA24B_AED4_963E_E407


@dataclass(frozen=True)
class Sets:
    """Evaluation sets, and how they become runs of words."""

    tasks: tuple[str, ...]
    data: Path | None
    files: tuple[Path, ...]
    words: int
    """Of a run."""
    shortest: int
    """Texts with fewer words than a run are looked for as a whole, down to so many."""

    def items(self) -> Iterable[Item]:
        """Of all sets, one after the other."""
        for task in self.tasks:
            assert self.data is not None, "checked by the step"
            yield from items_of_task(task, self.data)
        for path in self.files:
            yield from items_of_file(path)

    def fingerprint(self) -> str:
        """The same for the same settings, tasks and files, which are told by sizes and times."""
        inside = () if self.data is None or not self.tasks else sorted(self.data.rglob("*"))
        told = [repr((_VERSION, self)), *([_programs(_TASKS)] if self.tasks else [])]
        for path in (*inside, *self.files):
            if path.is_file():
                stat = path.stat()
                told.append(f"{path} {stat.st_size} {stat.st_mtime_ns}")
        return hashlib.blake2b("\n".join(told).encode(), digest_size=12).hexdigest()


@dataclass(frozen=True)
class Hits:
    """Runs of a text that are in the index, by their place."""

    hashes: Hashes
    """[H]"""
    starts: NDArray[np.int64]
    """[H], place of the first letter."""
    ends: NDArray[np.int64]
    """[H], behind the last letter."""


@dataclass(frozen=True)
class ContaminationIndex:
    """The entries of all items, sorted by their hash; use :func:`build` or :func:`opened`."""

    hashes: Hashes
    """[E]"""
    wholes: NDArray[np.int32]
    """[E], number of the whole that has it."""
    lengths: NDArray[np.int32]
    """Lengths of runs that there are, in words."""
    totals: NDArray[np.int32]
    """[wholes], how many different entries each has."""
    items: NDArray[np.int32]
    """[wholes], number of the item that each is of."""
    names: tuple[str, ...]
    """[items]"""
    too_short: int
    """Items that have no text of enough words."""
    opening: int
    """Words of an opening."""
    openings: Hashes
    """Of all entries, sorted."""
    table: NDArray[np.uint8]
    """A bit for the first bits of a hash: whether there is an opening that begins with them."""

    def hits(self, text: str) -> Hits:
        """The runs of a text that are entries."""
        words = words_of(text)
        openings = Runs(words.hashes).of(self.opening)
        bits = openings >> np.uint64(64 - _bits(self.table))
        likely = self.table[bits >> np.uint64(3)] >> (bits & np.uint64(7)).astype(np.uint8) & 1
        places = np.flatnonzero(likely)
        places = places[_among(openings[places], self.openings)]
        hashes, starts, ends = [], [], []
        for length in self.lengths.tolist() if len(places) else ():
            places = places[places <= len(words) - length]
            keys = _key(runs_at(words.hashes, places, length), length)
            there = _among(keys, self.hashes)
            hashes.append(keys[there])
            starts.append(words.starts[places[there]])
            ends.append(words.ends[places[there] + (length - 1)])
        if not hashes:
            nothing = np.empty(0, np.int64)
            return Hits(np.empty(0, np.uint64), nothing, nothing)
        return Hits(np.concatenate(hashes), np.concatenate(starts), np.concatenate(ends))

    def digest(self) -> str:
        """SHA-256 of the entries: the same for the same sets, wherever they are."""
        found = hashlib.sha256()
        for one in (self.hashes, self.wholes, self.totals, self.items):
            found.update(np.ascontiguousarray(one).data)
        return found.hexdigest()

    def wholes_of(self, hashes: Hashes) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
        """The wholes that have some entries.

        Returns:
            Pairs of the place in ``hashes`` and the whole's number.
        """
        first = np.searchsorted(self.hashes, hashes, "left")
        counts = np.searchsorted(self.hashes, hashes, "right") - first
        of = np.repeat(np.arange(len(hashes)), counts)
        inner = np.arange(len(of)) - np.repeat(np.cumsum(counts) - counts, counts)
        return of, self.wholes[first[of] + inner]

    def to_bytes(self) -> bytes:
        """As :meth:`from_bytes` reads it."""
        names = np.frombuffer("\n".join(self.names).encode(), dtype=np.uint8)
        with io.BytesIO() as file:
            np.savez(
                file,
                hashes=self.hashes,
                wholes=self.wholes,
                lengths=self.lengths,
                totals=self.totals,
                items=self.items,
                names=names,
                too_short=np.int64(self.too_short),
                opening=np.int64(self.opening),
                openings=self.openings,
            )
            return file.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> ContaminationIndex:
        """The inverse of :meth:`to_bytes`."""
        with np.load(io.BytesIO(data), allow_pickle=False) as saved:
            return cls(
                saved["hashes"],
                saved["wholes"],
                saved["lengths"],
                saved["totals"],
                saved["items"],
                tuple(saved["names"].tobytes().decode().split("\n")),
                int(saved["too_short"]),
                int(saved["opening"]),
                openings := saved["openings"],
                _table(openings),
            )


def build(items: Iterable[Item], words: int, shortest: int) -> ContaminationIndex:
    """An index.

    Args:
        items: of evaluation sets.
        words: of a run.
        shortest: texts with fewer words than a run are looked for as a whole, down to so many.

    Raises:
        ConfigError: no item has so many words.
    """
    names: list[str] = []
    found: list[tuple[list[Hashes], bool]] = []
    openings: list[Hashes] = []
    lengths: set[int] = set()
    too_short = 0
    for item in items:
        keys: list[Hashes] = []
        for text in item.texts:
            if (length := min(len(text), words)) >= shortest:
                runs = Runs(text)
                lengths.add(length)
                keys.append(_key(runs.of(length), length))
                openings.append(runs.of(shortest)[: len(keys[-1])])
        if keys:
            names.append(item.name.replace("\n", " "))
            found.append((_different(map(np.unique, keys)), item.complete))
        else:
            too_short += 1
    if not found:
        raise ConfigError(
            f"none of the {too_short:,} evaluation items has {shortest} words or more; lower "
            "shortest, or name other sets"
        )
    wholes, of_items = _wholes(found)
    totals = np.array([len(one) for one in wholes], dtype=np.int32)
    hashes = np.concatenate(wholes)
    owners = np.repeat(np.arange(len(wholes), dtype=np.int32), totals)
    order = np.argsort(hashes, kind="stable")
    hashes, owners = hashes[order], owners[order]
    few = _of_first_items(hashes, of_items[owners])
    hashes, owners = hashes[few], owners[few]
    return ContaminationIndex(
        hashes,
        owners,
        np.array(sorted(lengths), dtype=np.int32),
        totals,
        of_items,
        tuple(names),
        too_short,
        shortest,
        every := np.unique(np.concatenate(openings)),
        _table(every),
    )


def _wholes(items: Sequence[tuple[list[Hashes], bool]]) -> tuple[list[Hashes], NDArray[np.int32]]:
    """What texts are compared with.

    Args:
        items: entries of the texts of each, and whether each text is all of it.

    Returns:
        Entries of each whole, and the numbers of their items, [wholes].
    """
    owners = Counter(_digest(text) for texts, _ in items for text in texts)
    wholes: list[Hashes] = []
    of_items: list[int] = []
    for number, (texts, complete) in enumerate(items):
        some = texts
        if not complete:
            # A text of some length is an item, too, as a question is without its solution; but not
            # one that many have, such as an instruction or a licence.
            own = [one for one in texts if len(one) >= LARGE and owners[_digest(one)] <= _OWNERS]
            some = _different([np.unique(np.concatenate(texts)), *own])
        wholes += some
        of_items += [number] * len(some)
    return wholes, np.array(of_items, dtype=np.int32)


def _different(texts: Iterable[Hashes]) -> list[Hashes]:
    """Each of them once."""
    return [*{_digest(text): text for text in texts}.values()]


def _digest(text: Hashes) -> bytes:
    return hashlib.blake2b(text.tobytes(), digest_size=16).digest()


def _of_first_items(hashes: Hashes, items: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Which entries are of the first few items that share their hash.

    Args:
        hashes: [E], sorted.
        items: [E], ascending for the same hash.
    """
    another = np.concatenate(([True], hashes[1:] != hashes[:-1]))
    number = np.cumsum(another | np.concatenate(([True], items[1:] != items[:-1])))
    first = number[another][np.cumsum(another) - 1]
    few: NDArray[np.bool_] = number - first < _MOST_ITEMS
    return few


def opened(sets: Sets) -> ContaminationIndex:
    """The index of some sets, built if no process has done that yet.

    Raises:
        ConfigError: a set is unknown, not there, or malformed.
        OSError: the cache folder cannot be written.
    """
    folder = cache_dir() / "contamination"
    path = folder / f"{sets.fingerprint()}.npz"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f".{path.name}.lock"):  # other workers wait for it
            if not path.exists():
                atomic_write(path, build(sets.items(), sets.words, sets.shortest).to_bytes())
    return ContaminationIndex.from_bytes(path.read_bytes())


@functools.cache
def _programs(folder: Path) -> str:
    """A digest of the programs in a folder."""
    found = hashlib.blake2b(digest_size=12)
    for path in sorted(folder.rglob("*.py")):
        program = path.read_bytes()
        found.update(f"{path.relative_to(folder).as_posix()} {len(program)} ".encode() + program)
    return found.hexdigest()


def _key(runs: Hashes, length: int) -> Hashes:
    """What tells runs of one length from those of others."""
    return runs + np.uint64(length * _LENGTH_MIX % (1 << 64))


def _among(hashes: Hashes, every: Hashes) -> NDArray[np.bool_]:
    """Which hashes are among others, which are sorted."""
    places = np.minimum(np.searchsorted(every, hashes), len(every) - 1)
    found: NDArray[np.bool_] = every[places] == hashes
    return found


def _table(openings: Hashes) -> NDArray[np.uint8]:
    bits = max(10, (_BITS_PER_OPENING * len(openings) - 1).bit_length())
    table = np.zeros(1 << bits, dtype=np.bool_)
    table[openings >> np.uint64(64 - bits)] = True
    return np.packbits(table, bitorder="little")


def _bits(table: NDArray[np.uint8]) -> int:
    return len(table).bit_length() + 2


def names_of(index: ContaminationIndex, items: Sequence[int], most: int = 3) -> str:
    """Names of some items for people, the first few of them."""
    shown = ", ".join(index.names[item] for item in items[:most])
    return f"{shown} and {len(items) - most} more" if len(items) > most else shown
