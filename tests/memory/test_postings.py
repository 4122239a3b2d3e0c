"""Common words are counted by lists: like BM25, and nothing of what was forgotten."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from everlong.memory.episodes import Episode, NewEpisode
from everlong.memory.forget import Selection
from everlong.memory.memory import Memory
from everlong.memory.postings import Postings
from everlong.memory.recall import Recall

COMMON = [f"common{n}" for n in range(12)]
RARE = [f"rare{n}" for n in range(400)]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path, 1 << 20) as opened:
        yield opened


def filled(memory: Memory, count: int, seed: int = 0) -> list[Episode]:
    """Texts of 5 to 20 words, each once, some of them common."""
    draw = random.Random(seed)
    texts = []
    for _ in range(count):
        words = draw.sample(COMMON, 3) + draw.sample(RARE, draw.randrange(2, 18))
        draw.shuffle(words)
        texts.append(" ".join(words))
    return memory.episodes.add(memory.namespace().id, [NewEpisode(text) for text in texts])


def test_scores_are_those_of_bm25(memory: Memory) -> None:
    owner = memory.namespace().id
    filled(memory, 3000)
    postings = Postings(memory.episodes)
    for words in (["rare1", "rare2", "rare3"], ["rare7", "common1"], ["rare9"] * 1):
        match = "body : (" + " OR ".join(words) + ")"
        expected = dict(memory.episodes.words.ranked(owner, match, 20))
        found = postings.best(owner, words, 3000, 20)
        assert len(found) == 20
        # Lengths are counted in characters here, and in words there.
        assert max(found.values()) == pytest.approx(max(expected.values()), rel=0.1)
        assert len({*list(expected)[:5]} & {*list(found)[:8]}) >= 4


def test_lists_grow_with_the_memory_and_shrink_when_something_is_forgotten(memory: Memory) -> None:
    owner = memory.namespace().id
    postings = Postings(memory.episodes)
    assert len(postings.of(owner, "common1")) == 0
    first = filled(memory, 300, 1)
    having = [e.number for e in first if "common1" in e.text.split()]
    assert postings.of(owner, "common1").tolist() == having
    second = filled(memory, 200, 2)
    having += [e.number for e in second if "common1" in e.text.split()]
    assert postings.of(owner, "common1").tolist() == having
    assert postings.known(owner, "common1") == len(having)
    numbers, _ = memory.episodes.remove(owner, [e.id for e in first])
    postings.forget(owner, numbers)
    left = [e.number for e in second if "common1" in e.text.split()]
    assert postings.known(owner, "common1") == len(left)
    assert postings.of(owner, "common1").tolist() == left
    assert len(postings.of(memory.namespace("another").id, "common1")) == 0


def test_recall_finds_alike_by_lists_and_by_sqlite(memory: Memory) -> None:
    owner = memory.namespace().id
    told = filled(memory, 2000)
    lists, exact = Recall(memory.episodes, rows=50), Recall(memory.episodes)
    for episode in told[:40]:
        words = [word for word in episode.text.split() if word.startswith("rare")][:4]
        query = " ".join([*words, "common1", "common2"])
        found = [one.episode.id for one in lists.search(owner, query)]
        expected = [one.episode.id for one in exact.search(owner, query)]
        assert len({*found} & {*expected}) >= 6
        if len(words) == 4:
            assert episode.id in found[:5]
    assert lists.search(owner, "nowhere words") == []


def test_no_number_is_given_twice(memory: Memory) -> None:
    owner, other = memory.namespace().id, memory.namespace("other")
    filled(memory, 50)
    postings = Postings(memory.episodes)
    secret = memory.episodes.add(other.id, [NewEpisode("something else")])[0]
    before = postings.of(owner, "common1").tolist()
    memory.forget(other, Selection(episodes=(secret.id,)))
    new = memory.episodes.add(owner, [NewEpisode("common1 again")])[0]
    assert new.number == secret.number + 1
    assert postings.of(owner, "common1").tolist() == [*before, new.number]
