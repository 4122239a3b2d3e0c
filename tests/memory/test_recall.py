"""What is recalled, in which order, and when nothing is."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from everlong.memory.episodes import Episode, NewEpisode
from everlong.memory.forget import Selection
from everlong.memory.memory import Memory
from everlong.memory.recall import MOST_QUERY

CHAT = [
    ("Anna", "What did you do in the holidays?"),
    ("Ben", "We went to Gothenburg with the ferry."),
    ("Anna", "My cat Momo was ill, the vet came twice."),
    ("Ben", "Poor thing. Is she better?"),
    ("Anna", "Yes, much better since Monday."),
    ("Ben", "I bought a red bicycle for my daughter."),
    ("Anna", "How old is she now?"),
    ("Ben", "Seven, and taller than her cousin."),
]
OTHER = ["The ferns are watered on Fridays.", "The red folder holds invoices."]


class Letters:
    """A small embedder without a model: words as directions, so that equal words are near."""

    name = "letters"
    dimensions = 256
    evidence = -4.0, 6.0, 6.0

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                generator = np.random.default_rng(zlib.crc32(word[:5].encode()))
                vectors[row] += generator.normal(size=self.dimensions)
        return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)

    queries = documents


@pytest.fixture(params=["words", "vectors"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Memory]:
    with Memory(tmp_path, 1 << 20) as opened:
        owner = opened.namespace().id
        chat = [NewEpisode(t, "holidays", speaker=s, time=1e9 + n) for n, (s, t) in enumerate(CHAT)]
        opened.episodes.add(owner, chat)
        opened.episodes.add(owner, [NewEpisode(text, source="handbook.md") for text in OTHER])
        if request.param == "vectors":
            opened.recall.embedder = Letters()
            while opened.recall.embed_some(3):
                pass
            assert len(opened.episodes.vectors(owner, "letters")[0]) == 10
        yield opened


def texts(memory: Memory, query: str, **options: object) -> list[str]:
    owner = memory.namespace().id
    found = memory.recall.search(owner, query, **options)  # type: ignore[arg-type]
    return [one.episode.text for one in found]


def test_what_says_it_comes_first(memory: Memory) -> None:
    assert texts(memory, "When does the ferry to Gothenburg leave?")[0] == CHAT[1][1]
    assert texts(memory, "Momo the cat")[0] == CHAT[2][1]
    assert texts(memory, "watering ferns")[0] == OTHER[0]


def test_an_answer_is_found_through_its_question(memory: Memory) -> None:
    found = texts(memory, "How old is Ben's daughter?", limit=3)
    assert CHAT[7][1] in found


def test_who_is_named_is_preferred(memory: Memory) -> None:
    found = memory.recall.search(memory.namespace().id, "Ben red bicycle or Anna red folder")
    assert found[0].episode.speaker in ("Ben", "Anna")
    assert "speaker" in found[0].why
    assert set(found[0].why) <= {"words", "meaning", "around", "session", "speaker"}
    scores = [one.score for one in found]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)


def test_a_short_question_is_understood_from_what_was_said_before(memory: Memory) -> None:
    owner = memory.namespace().id
    said = ["Tell me of Momo the cat"]
    with_context = memory.recall.search(owner, "And the vet?", context=said)
    assert with_context[0].episode.text == CHAT[2][1]
    told = memory.recall.search(owner, "And then?", context=["the ferns are watered"])
    assert told[0].episode.text == OTHER[0]


def test_notes_are_few_and_only_where_there_is_something(memory: Memory) -> None:
    owner = memory.namespace().id

    def notes(query: str, budget: int = 100, session: str | None = None) -> list[Episode]:
        found = memory.recall.notes(
            owner,
            query,
            budget=budget,
            count=lambda episode: len(episode.text.split()),
            exclude_session=session,
        )
        return [one.episode for one in found]

    sure = notes("Which ferry goes to Gothenburg in the holidays?")
    assert sure[0].text == CHAT[1][1]
    assert sum(len(e.text.split()) for e in sure) <= 100
    assert notes("Which ferry goes to Gothenburg in the holidays?", budget=5) == []
    assert notes("Which ferry goes to Gothenburg?", session="holidays") == []
    for nothing in ("How do quantum computers factor integers?", "", "???", "the of and"):
        assert notes(nothing) == []


def test_near_duplicates_are_told_once(memory: Memory) -> None:
    owner = memory.namespace().id
    memory.episodes.add(owner, [NewEpisode(CHAT[1][1] + "!", "again", speaker="Ben")] * 3)
    memory.recall.embed_some(9)
    found = memory.recall.notes(
        owner,
        "the ferry to Gothenburg",
        budget=200,
        count=lambda episode: len(episode.text.split()),
    )
    assert sum("Gothenburg" in one.episode.text for one in found) == 1


def test_what_is_forgotten_is_not_recalled(memory: Memory) -> None:
    assert CHAT[1][1] in texts(memory, "Gothenburg ferry")
    memory.forget(memory.namespace(), Selection(query="Gothenburg"))
    assert not any("Gothenburg" in text for text in texts(memory, "Gothenburg ferry"))


def test_another_namespace_recalls_nothing_and_changes_nothing(memory: Memory) -> None:
    before = memory.recall.search(memory.namespace().id, "the red bicycle")
    stranger = memory.namespace("stranger").id
    assert memory.recall.search(stranger, "the red bicycle") == []
    memory.episodes.add(stranger, [NewEpisode(f"the red bicycle {n}") for n in range(50)])
    memory.recall.embed_some(99)
    assert memory.recall.search(memory.namespace().id, "the red bicycle") == before


def test_of_a_very_long_query_the_end_is_looked_for(memory: Memory) -> None:
    long = "Gothenburg ferry " + "else " * MOST_QUERY + "Momo the cat"
    owner = memory.namespace().id
    found = memory.recall.search(owner, long)
    assert found == memory.recall.search(owner, long[-MOST_QUERY:])
    for one in (found, memory.recall.search(owner, "?", context=[long])):
        by_words = [f.episode.text for f in one if "words" in f.why]
        assert by_words == [CHAT[2][1]]


def test_new_episodes_are_found_without_vectors_and_then_with(memory: Memory) -> None:
    owner = memory.namespace().id
    memory.episodes.add(owner, [NewEpisode("A walrus plays the xylophone.", "later")])
    assert "A walrus plays the xylophone." in texts(memory, "walrus xylophone")
    memory.recall.embed_some(9)
    assert texts(memory, "walrus xylophone")[0] == "A walrus plays the xylophone."


def test_a_memory_of_two_texts_knows_what_it_has(tmp_path: Path) -> None:
    with Memory(tmp_path, 1 << 20) as memory:
        owner = memory.namespace().id
        said = "My boat is called Wandering Albatross and lies in Svolvær, berth 14."
        memory.episodes.add(owner, [NewEpisode(said), NewEpisode("Noted, a fine boat.")])

        def sure(query: str) -> float:
            found = memory.recall.search(owner, query)
            return found[0].score if found else 0.0

        assert sure("Where is my boat?") > 0.5
        assert sure("Does the boat called Wandering Albatross lie in Svolvær at berth 14?") > 0.5
        assert sure("Which boats do quantum computers factor integers with tonight?") < 0.5
