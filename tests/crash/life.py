"""A memory that is used by chance: blocks, namespaces and credentials, put, cleaned, opened again.

Whoever uses it says what must be there from now on, so that a checker can hold the memory to it.
"""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from everlong.errors import EverlongError
from everlong.memory.block_store import BlockStore
from everlong.memory.episodes import NewEpisode
from everlong.memory.forget import Selection
from everlong.memory.memory import Memory
from everlong.memory.record import PAGE
from everlong.memory.sessions import Message
from tests.memory.blocks import RECORD, block, name

NAMESPACE = block(0).head.namespace

SMALL = 8 * (6 * RECORD + PAGE)
"""Of a memory: eight segments of six blocks each, so that one is cleaned every few steps."""
LARGE = 8 * (15 * RECORD + PAGE)
_HELD = 2
"""The first blocks are always in use."""


@dataclass
class Promise:
    """What a memory has said is durable."""

    blocks: set[int] = field(default_factory=set)
    ever: set[int] = field(default_factory=set)
    """All that were durable at some time."""
    next: int = 0
    """The number of the first block that was never put."""
    namespaces: dict[str, str] = field(default_factory=dict)
    """Secrets by name, in hexadecimal."""
    credentials: dict[str, str] = field(default_factory=dict)
    """Ids of what they open, in hexadecimal."""
    told: list[int] = field(default_factory=list)
    """Numbers of texts that are remembered as episodes, and said in a session, in this order."""
    texts: int = 0
    """The number of the first text that was never told."""
    forgotten_blocks: list[int] = field(default_factory=list)
    forgotten_texts: list[int] = field(default_factory=list)
    """Of which no byte is in any file."""

    def as_json(self) -> dict[str, Any]:
        """As it is written into a log."""
        return {**asdict(self), "blocks": sorted(self.blocks), "ever": sorted(self.ever)}

    @classmethod
    def of(cls, mark: bytes) -> Promise:
        """As it is read there."""
        promise = cls(**json.loads(mark))
        return replace(promise, blocks=set(promise.blocks), ever=set(promise.ever))


class Life:
    """Uses a memory, one step after the other.

    Args:
        folder: the memory's.
        size: of its blocks, in bytes.
        seed: of what is done.
        promise: what is there already.
        say: told that the promise has changed.
    """

    def __init__(
        self, folder: Path, size: int, seed: int, promise: Promise, say: Callable[[], None]
    ) -> None:
        self.promise = promise
        self._say = say
        self.told: list[str] = []
        """Errors that the memory raised, every one of them ours."""
        self._folder = folder
        self._size = size
        self._draw = random.Random(seed)
        self._memory: Memory | None = None

    def step(self) -> None:
        """Do something; afterwards the promise is what the memory says is durable.

        Errors that say what is wrong are noted and the next step goes on; others are raised.
        """
        draw, promise = self._draw, self.promise
        last = promise.next + draw.randrange(1, 7)
        chance = draw.random()
        try:
            memory = self.opened()
            store = memory.blocks
            new = range(promise.next, last)
            promise.next = last
            for n in new:
                store.put(block(n), n % 20, patience=10)
            if chance > 0.8:
                store.touch(name(n) for n in draw.sample(sorted(promise.blocks | {0}), 1))
            store.flush()
            promise.blocks = present(store, promise.blocks | set(new))
            promise.ever |= promise.blocks
            if chance < 0.15:
                self._forget_blocks(store)
            elif chance < 0.25:
                self._tell(memory)
            elif chance < 0.3:
                self._forget_text(memory)
            elif chance < 0.4:
                made = memory.namespace(f"n{len(promise.namespaces)}")
                promise.namespaces[made.name] = made.secret.hex()
            elif chance < 0.44:
                credential = f"key {len(promise.credentials)}"
                promise.credentials[credential] = memory.namespaces.opened_by(credential).id.hex()
            elif chance < 0.5:
                store.verify()
            elif chance < 0.65:
                self.close()
                self.opened()
        except EverlongError as error:
            self.told.append(str(error))
        self._say()

    def _tell(self, memory: Memory) -> None:
        promise, local = self.promise, memory.namespace().id
        n, promise.texts = promise.texts, promise.texts + 1
        memory.episodes.add(local, [NewEpisode(text(n), session="s")])
        session = memory.sessions.open(local, "s")
        memory.sessions.append(session, [Message(0, {"role": "user", "content": text(n)})])
        promise.told.append(n)

    def _forget_text(self, memory: Memory) -> None:
        promise = self.promise
        if promise.told:
            n = promise.told.pop(self._draw.randrange(len(promise.told)))
            self._say()  # what is being forgotten is not promised
            found = memory.episodes.matching(memory.namespace().id, query=word(n))
            session = memory.sessions.open(memory.namespace().id, "s")
            (message,) = [m for m in memory.sessions.messages(session) if word(n) in str(m.body)]
            memory.sessions.remembered_as(session, message.place, [e.id for e in found])
            memory.forget(memory.namespace(), Selection(episodes=tuple(e.id for e in found)))
            promise.forgotten_texts.append(n)

    def _forget_blocks(self, store: BlockStore) -> None:
        promise = self.promise
        going = self._draw.sample(sorted(promise.blocks), min(3, len(promise.blocks)))
        promise.blocks.difference_update(going)
        promise.ever.difference_update(going)
        self._say()
        store.forget(NAMESPACE, {name(n) for n in promise.blocks})
        promise.forgotten_blocks += going

    def opened(self) -> Memory:
        """The memory, opened if it is not."""
        if self._memory is None:
            self._memory = Memory(self._folder, self._size)
            self._memory.blocks.hold(name(n) for n in range(_HELD))
        return self._memory

    def close(self) -> None:
        """Close the memory if it is open."""
        memory, self._memory = self._memory, None
        if memory is not None:
            memory.close()


def present(store: BlockStore, numbers: Iterable[int]) -> set[int]:
    """Which blocks the store has.

    Raises:
        Broken: it has one that is not what was put.
    """
    return {n for n in numbers if holds(store, n)}


def never_dropped(promise: Promise, size: int) -> set[int]:
    """Blocks that were durable and that no cleaning drops: held ones, and the last written."""
    segment_blocks = (size // 8 - PAGE) // RECORD
    newest = promise.next - 3 * segment_blocks
    return {n for n in promise.ever if n < _HELD or n >= newest}


def text(n: int) -> str:
    """A text with a word that no other has."""
    return f"the word of day {n} is {word(n)}, said somebody"


def word(n: int) -> str:
    """A word."""
    return "q" + hashlib.sha256(str(n).encode()).hexdigest()[:16]


class Broken(Exception):
    """A memory is not as it must be.

    Args:
        message: what is not.
        lost: how many blocks are gone that had been promised.
    """

    def __init__(self, message: str, lost: int = 0) -> None:
        super().__init__(message)
        self.lost = lost


def hold_to(folder: Path, size: int, must: set[int], promise: Promise) -> float:
    """Open a memory and hold it to what was promised; it must also go on working.

    Args:
        folder: the memory's.
        size: of its blocks.
        must: blocks that must be there.
        promise: of everything else; its ``next`` tells which blocks may be there.

    Returns:
        Seconds that opening took.

    Raises:
        Broken: something is not as it must be.
    """
    _look_for_forgotten(folder, promise)
    ends = promise.next + 10
    began = time.perf_counter()
    with Memory(folder, size) as memory:
        took = time.perf_counter() - began
        store = memory.blocks
        there = present(store, range(ends))
        if lost := must - there:
            raise Broken(f"lost blocks {sorted(lost)}", len(lost))
        if back := there & set(promise.forgotten_blocks):
            raise Broken(f"forgotten blocks are back: {sorted(back)}")
        if damaged := store.verify() + store.stats().damaged:
            raise Broken(f"{damaged} blocks are damaged")
        _look_for_records(memory, promise)
        more = range(ends, ends + 3)
        for n in more:
            store.put(block(n), 0, patience=10)
        store.flush()
        if trouble := store.stats().trouble:
            raise Broken(f"it does not go on: {trouble}")
        if (files := sum(p.stat().st_size for p in folder.glob("blocks/*.segment"))) > size:
            raise Broken(f"it has {files} bytes of segments, and may have {size}")
        there = present(store, range(ends + 3))
        if not there.issuperset(more):
            raise Broken("what was put into it afterwards is not there")
    with Memory(folder, size) as memory:
        if gone := there - present(memory.blocks, there):
            raise Broken(f"lost blocks {sorted(gone)} when it was opened again", len(gone))
    _look_for_forgotten(folder, promise)
    return took


def _look_for_records(memory: Memory, promise: Promise) -> None:
    for title, secret in promise.namespaces.items():
        if memory.namespace(title).secret.hex() != secret:
            raise Broken(f"namespace {title} is another one")
    for credential, identity in list(promise.credentials.items())[-1:]:
        if memory.namespaces.opened_by(credential).id.hex() != identity:
            raise Broken(f"{credential} opens another namespace")
    local = memory.namespace().id
    session = memory.sessions.open(local, "s")
    said = {message.body["content"] for message in memory.sessions.messages(session)}
    for n in promise.told:
        if [found.text for found in memory.episodes.matching(local, query=word(n))] != [text(n)]:
            raise Broken(f"text {n} is not found")
        if text(n) not in said:
            raise Broken(f"text {n} is not in its session")


def _look_for_forgotten(folder: Path, promise: Promise) -> None:
    parts = [word(n)[4:14].encode() for n in promise.forgotten_texts]
    for n in promise.forgotten_blocks[-10:]:  # looking for all of them takes too long
        content = bytes(block(n).payload)
        parts += [content[begin : begin + 24] for begin in range(0, len(content), 512)]
    for path in sorted(folder.rglob("*")) if parts else []:
        if path.is_file():
            held = path.read_bytes()
            if found := [part for part in parts if part in held]:
                raise Broken(f"{len(found)} parts of what was forgotten are in {path.name}")


def holds(store: BlockStore, n: int) -> bool:
    """Whether the store has a block.

    Raises:
        Broken: it has another one in its place.
    """
    record = store.get(name(n))
    if record is None:
        return False
    expected = block(n)
    if record.head != expected.head or record.verified() != expected.payload:
        raise Broken(f"block {n} is another one")
    return True
