"""Episodes are found by their words, apart by namespace, and gone when they are forgotten."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from everlong.memory.episodes import NewEpisode
from everlong.memory.memory import Memory

TEXTS = [
    "Melissa paints watercolours of lighthouses",
    "the ferry to Gothenburg leaves at seven",
    "a xylophone was broken in the zeppelin",
    "lighthouses are painted white and red",
]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path, 1 << 20) as opened:
        yield opened


def told(text: str, **more: object) -> NewEpisode:
    return NewEpisode(text, **more)  # type: ignore[arg-type]


def test_episodes_follow_each_other_in_their_session(memory: Memory) -> None:
    owner = memory.namespace().id
    first = memory.episodes.add(owner, [told(t, session="s", speaker="user") for t in TEXTS[:2]])
    memory.episodes.add(owner, [told("elsewhere", session="t")])
    second = memory.episodes.add(owner, [told(t, session="s") for t in TEXTS[2:]])
    assert [e.place for e in [*first, *second]] == [0, 1, 2, 3]
    assert [e.text for e in memory.episodes.around(owner, second[0], 1)] == TEXTS[1:]
    pages: list[str] = []
    before = None
    while page := memory.episodes.page(owner, limit=2, before=before, session="s"):
        pages += [e.text for e in page]
        before = page[-1].number
    assert pages == TEXTS[::-1]
    assert memory.episodes.count(owner) == 5
    assert memory.episodes.get(owner, [first[1].id, b"x" * 16]) == [first[1]]


def test_words_are_found_in_other_forms_and_all_of_them(memory: Memory) -> None:
    owner = memory.namespace().id
    memory.episodes.add(owner, list(map(told, TEXTS)))
    found = memory.episodes.matching(owner, query="painting lighthouse")
    assert [e.text for e in found] == [TEXTS[0], TEXTS[3]]
    assert memory.episodes.matching(owner, query="painting ferry") == []
    assert memory.episodes.matching(owner, query='"; drop table --') == []
    numbers = [n for n, _ in memory.episodes.words.ranked(owner, '"lighthouse" OR "red"', 10)]
    assert {e.text for e in memory.episodes.numbered(owner, numbers)} == {TEXTS[0], TEXTS[3]}
    assert numbers[0] == memory.episodes.matching(owner, query="red")[0].number


def test_namespaces_find_nothing_of_each_other(memory: Memory) -> None:
    one, two = memory.namespace("one").id, memory.namespace("two").id
    (secret,) = memory.episodes.add(one, [told(TEXTS[0])])
    assert memory.episodes.get(two, [secret.id]) == []
    assert memory.episodes.numbered(two, [secret.number]) == []
    assert memory.episodes.matching(two, query="lighthouse") == []
    assert memory.episodes.words.ranked(two, "lighthouse", 5) == []
    assert memory.episodes.page(two, limit=5) == []
    assert memory.episodes.remove(two, [secret.id]) == ([], 0)
    assert memory.episodes.get(one, [secret.id]) == [secret]


def test_vectors_come_later_and_are_made_once(memory: Memory) -> None:
    owner = memory.namespace().id
    added = memory.episodes.add(owner, list(map(told, TEXTS)))
    assert memory.episodes.without_vector("e", 3) == added[:3]
    vectors = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    memory.episodes.set_vectors("e", added, vectors)
    assert memory.episodes.without_vector("e", 3) == []
    assert len(memory.episodes.without_vector("another", 9)) == 4
    numbers, kept = memory.episodes.vectors(owner, "e")
    assert numbers.tolist() == [e.number for e in added]
    assert np.allclose(kept, vectors, atol=1e-2)
    assert memory.episodes.vectors(owner, "e", added[2].number)[0].tolist() == [added[3].number]


def test_nothing_of_what_is_removed_stays_in_a_file(memory: Memory) -> None:
    owner = memory.namespace().id
    added = memory.episodes.add(owner, [told(t, session="s") for t in TEXTS] * 50)
    vectors = np.random.default_rng(0).normal(size=(200, 384)).astype(np.float32)
    memory.episodes.set_vectors("e", added, vectors)
    gone = [e for e in added if "zeppelin" in e.text]
    numbers, count = memory.episodes.remove(owner, [e.id for e in gone])
    assert (sorted(numbers), count) == ([e.number for e in gone], 50)
    held = b"".join(p.read_bytes() for p in memory.folder.rglob("*") if p.is_file()).lower()
    for word in (b"xylophon", b"broken", b"zeppelin"):
        assert word not in held
    raw = b"".join(p.read_bytes() for p in memory.folder.rglob("*") if p.is_file())
    for one, vector in zip(added, vectors.astype(np.float16), strict=True):
        assert (one.id in raw) == (vector.tobytes() in raw) == (one not in gone)
    assert b"gothenburg" in held
    assert [e.text for e in memory.episodes.matching(owner, query="broken")] == []
    assert len(memory.episodes.matching(owner, query="ferry")) == 50


def test_a_few_episodes_are_found_without_going_through_all(memory: Memory) -> None:
    owner = memory.namespace().id
    added = memory.episodes.add(owner, [told(f"text {n}", session=str(n % 9)) for n in range(3000)])
    some = [episode.number for episode in added[1000:1005]]
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    connection = memory.database.connection
    connection.set_progress_handler(step, 100)
    try:
        assert [e.number for e in memory.episodes.numbered(owner, some)] == some
        assert len(memory.episodes.get(owner, [e.id for e in added[:5]])) == 5
        assert len(memory.episodes.around_all(owner, some, 2)) == 25
        assert len(memory.episodes.lengths(owner, some)) == 5
    finally:
        connection.set_progress_handler(None, 100)
    # Going through the namespace once takes some 10,000 of SQLite's instructions or more.
    assert steps * 100 < 5000
