"""The pool against a plain model of what it should hold."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.engine.block_pool import BlockPool
from everlong.errors import ConfigError
from everlong.memory.block_id import block_id
from everlong.memory.record import NO_PARENT

SHAPE = (1, 1, 2, 64, 4)


def pool(count: int) -> BlockPool:
    return BlockPool(SHAPE, count, torch.float32)


def test_every_part_of_an_identity_matters() -> None:
    tokens = list(range(64))
    base = block_id(b"s" * 32, b"model", NO_PARENT, tokens)
    others = [
        block_id(b"t" * 32, b"model", NO_PARENT, tokens),
        block_id(b"s" * 32, b"model2", NO_PARENT, tokens),
        block_id(b"s" * 32, b"model", base, tokens),
        block_id(b"s" * 32, b"model", NO_PARENT, [*tokens[:-1], 99]),
        block_id(b"s" * 32, b"mode", b"l" + NO_PARENT[1:], tokens),
    ]
    assert len({base, *others}) == 6
    assert base == block_id(b"s" * 32, b"model", NO_PARENT, tokens)


def test_a_released_block_is_found_until_its_memory_is_needed() -> None:
    p = pool(2)
    first = p.take()
    assert first is not None
    p.tensor(first).fill_(7)
    p.publish(first, b"first")
    p.release(first)
    assert p.available == 2
    found = p.find(b"first", 0)
    assert found == first
    assert (p.tensor(first) == 7).all()
    p.release(first)
    assert p.take() is not None  # the free one
    assert p.contains(b"first")
    assert p.take() == first  # now the cached one
    assert not p.contains(b"first")
    assert p.take() is None


def test_the_longest_unused_block_goes_first() -> None:
    p = pool(3)
    blocks = [p.take() for _ in range(3)]
    for i, block in enumerate(blocks):
        p.publish(block, bytes([i]))  # type: ignore[arg-type]
    for i in (1, 0, 2):
        p.release(blocks[i])  # type: ignore[arg-type]
    p.release(p.find(b"\x01", 0))  # type: ignore[arg-type]  # used again
    assert [p.take() for _ in range(3)] == [blocks[0], blocks[2], blocks[1]]


def test_forgetting_leaves_held_blocks_alone() -> None:
    p = pool(2)
    held, cached = p.take(), p.take()
    p.publish(held, b"held")  # type: ignore[arg-type]
    p.publish(cached, b"cached", b"owner")  # type: ignore[arg-type]
    p.release(cached)  # type: ignore[arg-type]
    p.forget_cached(b"another")
    assert p.cached == 1
    p.forget_cached(b"owner")
    assert p.contains(b"held")
    assert not p.contains(b"cached")
    assert p.take() == cached


def test_the_longest_beginning_is_copied_from() -> None:
    p = pool(4)
    short, long = p.take(), p.take()
    assert short is not None
    assert long is not None
    p.tensor(short).fill_(1)
    p.tensor(long).fill_(2)
    p.describe(short, b"lead", range(20))
    p.describe(long, b"lead", [*range(30), 99, 31])
    assert p.longest(b"lead", range(64)) == (long, 30)
    assert p.longest(b"lead", range(18))[1] == 18
    assert p.longest(b"other", range(64)) == (-1, 0)
    copied = p.copy(long, 30)
    assert copied not in (None, short, long)
    assert (p.tensor(copied)[..., :30, :] == 2).all()  # type: ignore[arg-type]
    # Nobody holds it, yet it is found, until its memory is needed.
    p.release(long)
    assert p.longest(b"lead", range(64)) == (long, 30)
    assert p.take() is not None
    assert p.copy(long, 30) is None, "the last block is not taken to copy it into itself"
    assert p.longest(b"lead", range(64)) == (long, 30)
    assert p.take() == long
    assert p.longest(b"lead", range(64)) == (short, 20)


def test_few_of_many_equal_beginnings_are_kept() -> None:
    p = pool(40)
    blocks = [p.take() for _ in range(40)]
    for block in blocks:
        p.describe(block, b"lead", range(20))  # type: ignore[arg-type]
        p.release(block)  # type: ignore[arg-type]
    found, _ = p.longest(b"lead", range(20))
    assert found in blocks[-8:]
    assert p.available == 40
    assert len({p.take() for _ in range(40)}) == 40


def test_a_pool_needs_blocks() -> None:
    with pytest.raises(ConfigError, match="at least 1 block"):
        pool(0)


@settings(max_examples=200, deadline=None)
@given(
    st.integers(1, 6),
    st.lists(st.tuples(st.sampled_from(["take", "publish", "release", "find"]), st.integers(0, 9))),
)
def test_holds_add_up(count: int, actions: list[tuple[str, int]]) -> None:
    """However blocks are used: none is handed out twice, none is lost, contents stay true."""
    p = pool(count)
    held: list[int] = []
    content: dict[int, bytes] = {}
    for action, n in actions:
        if action == "take":
            block = p.take()
            assert (block is None) == (len(set(held)) == count)
            if block is not None:
                assert block not in held
                content.pop(block, None)
                held.append(block)
        elif action == "publish" and held:
            block, known = held[n % len(held)], bytes([n])
            if block not in content and not p.contains(known):
                content[block] = known
            elif block in content:
                continue
            p.publish(block, known)
        elif action == "release" and held:
            p.release(held.pop(n % len(held)))
        elif action == "find":
            block = p.find(bytes([n]), 0)
            if block is not None:
                assert content[block] == bytes([n])
                held.append(block)
        assert p.available == count - len(set(held))
