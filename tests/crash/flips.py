"""A bit of a file is another one: what is read is what was written, or missing, or our own error.

Every file of a small memory is hit, also SQLite's logs of writes: alternately in bytes at the
beginning of a page or of a record, and anywhere. A memory whose records are damaged may refuse to
be opened; blocks can be computed again, so whatever happens to their files, the memory opens, and
new blocks are stored.

A problem names the flip: the file, the byte, the bit, and the state of the memory (``closed``, or
``open``: as a process that was killed leaves it).
"""

from __future__ import annotations

import random
import shutil
import time
from contextlib import suppress
from pathlib import Path

from everlong.errors import DamagedError, StoreError
from everlong.memory.block_store import BlockStore
from everlong.memory.episodes import NewEpisode
from everlong.memory.memory import Memory
from everlong.memory.namespaces import Namespace
from everlong.memory.record import PAGE
from everlong.memory.sessions import Message
from tests.crash.life import SMALL, Broken, holds, text
from tests.crash.outcome import Outcome
from tests.memory.blocks import block

_BLOCKS = 20
_NEW = range(_BLOCKS, _BLOCKS + 3)
_TEXTS = 6
_TOKENS = list(range(100))


def flips(count: int, folder: Path, *, seed: int) -> Outcome:
    """Flip bits.

    Args:
        count: how many, one at a time.
        folder: an empty one.
        seed: of which.
    """
    outcome = Outcome()
    draw = random.Random(seed)
    made = _make(folder)
    for n in range(count):
        state = folder / draw.choice(["open", "closed"])
        hit = draw.choice([p for p in sorted(state.rglob("*")) if p.is_file() and p.stat().st_size])
        byte = draw.randrange(hit.stat().st_size)
        if n % 2:
            byte = byte // PAGE * PAGE + draw.randrange(120)
            byte = min(byte, hit.stat().st_size - 1)
        bit = draw.randrange(8)
        work = folder / "work"
        shutil.copytree(state, work)
        damaged = work / hit.relative_to(state)
        content = bytearray(damaged.read_bytes())
        content[byte] ^= 1 << bit
        damaged.write_bytes(content)
        where = hit.relative_to(state)
        outcome.check(
            f"{state.name} {where} byte {byte} bit {bit} (seed {seed})",
            lambda where=where: _read_all(folder / "work", made, where.parts[0] == "blocks"),
        )
        shutil.rmtree(work)
    return outcome


def _make(folder: Path) -> Namespace:
    """Memories ``open`` and ``closed`` with the same in them; returns the namespace."""
    memory = Memory(folder / "made", SMALL)
    local = memory.namespace()
    for n in range(_BLOCKS):
        memory.blocks.put(block(n), n, patience=10)
        memory.blocks.flush()
    session = memory.sessions.open(local.id, "s")
    for n in range(_TEXTS):
        memory.episodes.add(local.id, [NewEpisode(text(n), session="s", speaker="somebody")])
        memory.sessions.append(session, [Message(0, {"content": text(n)})])
    memory.sessions.write_transcript(session, b"t" * 32, 0, _TEXTS - 1, _TOKENS)
    shutil.copytree(folder / "made", folder / "open")
    memory.close()
    (folder / "made").rename(folder / "closed")
    return local


def _read_all(folder: Path, made: Namespace, opens: bool) -> float:
    began = time.perf_counter()
    try:
        memory = Memory(folder, SMALL)
    except StoreError as error:
        # Another version's or another program's file is not touched, whatever made it look so.
        if opens and not any(w in str(error) for w in ("has version", "another program")):
            raise Broken(f"it does not open: {error}") from None
        if "\n" in str(error):
            raise Broken(f"more than a line: {error}") from None
        return 0.0
    took = time.perf_counter() - began
    try:
        _read_blocks(memory.blocks)  # whatever of them can be read
        for read in (_read_texts, _read_session):
            with suppress(StoreError):
                read(memory, made)
    finally:
        memory.close()
    if opens:  # what was found late is mended now
        with Memory(folder, SMALL) as memory:
            there = _read_blocks(memory.blocks)
            if trouble := memory.blocks.stats().trouble:
                raise Broken(f"it does not go on: {trouble}")
            if missing := set(_NEW) - there:
                raise Broken(f"new blocks {sorted(missing)} are not kept")
    return took


def _read_blocks(store: BlockStore) -> set[int]:
    """Read all and put new ones; returns which of these are there."""
    for n in range(_BLOCKS):
        with suppress(DamagedError):
            holds(store, n)
    with suppress(StoreError):
        store.verify()
    for n in _NEW:
        store.put(block(n), 0, patience=10)
    store.flush()
    return {n for n in _NEW if holds(store, n)}


def _read_texts(memory: Memory, made: Namespace) -> None:
    local = memory.namespace()
    # A damaged log of writes loses its end, and what was written there is made anew.
    if local.id == made.id and local != made:
        raise Broken("the namespace is another one")
    told = {text(n) for n in range(_TEXTS)}
    for found in (*memory.episodes.page(local.id, limit=100), *memory.episodes.all(local.id)):
        if found.text not in told or found.speaker != "somebody" or found.session != "s":
            raise Broken(f"an episode is another one: {found}")


def _read_session(memory: Memory, made: Namespace) -> None:
    session = memory.sessions.find(memory.namespace().id, "s")
    if session is None:
        return
    for message in memory.sessions.messages(session):
        if message.body != {"content": text(message.place)} or message.notes:
            raise Broken(f"a message is another one: {message}")
    tokens = memory.sessions.transcript(session, b"t" * 32)
    if tokens != _TOKENS[: len(tokens)]:
        raise Broken("a transcript is another one")
