"""A million episodes in one namespace: how long recall takes, and what its pruning loses.

The episodes are real texts: books in passages of one to five sentences, dialogues, pages of
documentation, medical answers and sentences in 205 languages; LoCoMo's conversations lie among
them. Vectors are those of the default embedder, the loaded model's words, for every episode.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from benchmarks.locomo import Conversation
from benchmarks.report import Measured
from everlong.evaluation.data import Data
from everlong.memory.episodes import NewEpisode
from everlong.memory.memory import Memory
from everlong.memory.recall import Embedder, Recall

CLAIMS = ("recall_1m_p99_with_query_embedding", "recall_points_lost_at_1m_to_pruning")

EPISODES = 1_000_000
_BEFORE = 100
"""Searches that go before those whose time is taken, each of another question."""
_COMPARED = 300
"""Questions that are also answered without pruning, half a second each."""
_BATCH = 500
_MOST_CHARACTERS = 1500

Told = tuple[str, list[tuple[str, str]]]
"""A document: its name, and its passages with their speakers."""
_Pair = tuple[NewEpisode, str | None]
"""What is remembered, and which turn it is."""


def measure(
    data: Path,
    folder: Path,
    embedder: Embedder,
    talks: Sequence[Conversation],
    seed: int,
    say: Callable[[str], None],
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Both claims, and the single measurements."""
    with Memory(folder / "million", 1 << 20) as memory:
        owner = memory.namespace().id
        turns = _fill(memory, owner, data, talks, seed)
        memory.recall.embedder = embedder
        done = 0
        while some := memory.recall.embed_some(4000):
            done += some
            if done % 100_000 == 0:
                say(f"{done:,} of {EPISODES:,} episodes have vectors")
        questions = [
            (q.text, {f"{talk.name} {turn}" for turn in q.evidence})
            for talk in talks
            for q in talk.questions
        ]
        random.Random(seed).shuffle(questions)
        say("searching")
        start = time.perf_counter()
        memory.recall.search(owner, questions[0][0])
        first = time.perf_counter() - start
        seconds = []
        for number, (text, _) in enumerate(questions):
            start = time.perf_counter()
            memory.recall.search(owner, text)
            if number >= _BEFORE:
                seconds.append(time.perf_counter() - start)
        half, most = 1000 * np.percentile(seconds, (50, 99))
        say("searching without pruning")
        exact = Recall(memory.episodes, embedder, rows=EPISODES * 100, exact=EPISODES * 2)
        scores: dict[str, list[float]] = {"pruned": [], "exact": []}
        for text, evidence in questions[:_COMPARED]:
            for name, recall in (("pruned", memory.recall), ("exact", exact)):
                numbers = [one.episode.number for one in recall.search(owner, text)]
                found = {turns[number] for number in numbers if number in turns}
                scores[name].append(len(evidence & found) / len(evidence))
    mean = {name: 100 * float(np.mean(values)) for name, values in scores.items()}
    return {
        "recall_1m_p99_with_query_embedding": Measured(
            float(most),
            f"p50 {half:.1f} ms, {len(seconds)} questions after {_BEFORE} others, query embedding "
            f"by {embedder.name}; the first search, which reads the vectors, {first:.1f} s",
        ),
        "recall_points_lost_at_1m_to_pruning": Measured(
            mean["exact"] - mean["pruned"],
            f"evidence recall@10 among {EPISODES:,} episodes: {mean['pruned']:.1f} %, and "
            f"{mean['exact']:.1f} % with all words and all vectors compared; "
            f"{len(scores['exact'])} questions",
        ),
    }, {"milliseconds": [round(1000 * s, 2) for s in seconds], "recall": mean}


def _fill(
    memory: Memory, owner: bytes, data: Path, talks: Sequence[Conversation], seed: int
) -> dict[int, str]:
    """Make the episodes, documents in an order that is drawn; returns ids of turns by number."""
    draw = random.Random(seed)
    chats: list[list[_Pair]] = []
    for talk in talks:
        by_session: dict[str, list[_Pair]] = {}
        for turn in talk.turns:
            session = f"{talk.name} {turn.episode.session}"
            pair = replace(turn.episode, session=session), f"{talk.name} {turn.id}"
            by_session.setdefault(session, []).append(pair)
        chats += by_session.values()
    wanted = EPISODES - sum(map(len, chats))
    documents: list[list[_Pair]] = []
    for told in _documents(data):
        documents.append([(episode, None) for episode in _episodes(told, draw)])
    draw.shuffle(documents)
    for document in documents:
        chats.append(document[: max(wanted, 0)])
        wanted -= len(document)
    if wanted > 0:
        raise RuntimeError(f"{data} has {wanted:,} passages too few")
    draw.shuffle(chats)
    pairs = [pair for chat in chats for pair in chat]
    found: dict[int, str] = {}
    for start in range(0, len(pairs), _BATCH):
        batch = pairs[start : start + _BATCH]
        added = memory.episodes.add(owner, [episode for episode, _ in batch])
        for kept, (_, name) in zip(added, batch, strict=True):
            if name is not None:
                found[kept.number] = name
    return found


def _episodes(told: Told, draw: random.Random) -> list[NewEpisode]:
    name, parts = told
    when = draw.uniform(1.6e9, 1.7e9)
    return [
        NewEpisode(text[:_MOST_CHARACTERS], source=name, speaker=speaker, time=when)
        for speaker, text in parts
    ]


def _documents(data: Path) -> Iterator[Told]:
    books = Data(data)
    for book in books.names("books/*.txt"):
        sentences = _sentences(books.text(book))
        for length in range(1, 6):
            # In pieces as long as a chapter.
            for start in range(0, len(sentences), 100):
                piece = sentences[start : start + 100]
                ends = range(length, len(piece) + 1)
                parts = [("", " ".join(piece[end - length : end])) for end in ends]
                yield f"{PurePosixPath(book).stem} {length} {start}", parts
    for number, talk in enumerate(_lines(data / "sgd_dialogues" / "sgd_dev.jsonl.gz")):
        yield f"dialogue {number}", [(t["speaker"], t["utterance"]) for t in talk["turns"]]
    for page in _lines(data / "tldr" / "tldr.jsonl.gz"):
        parts = [("", part.strip()) for part in page["text"].split("\n\n- ") if part.strip()]
        yield f"manual {page['lang']} {page['platform']} {page['name']}", parts
    for number, pair in enumerate(_lines(data / "medquad" / "medquad.jsonl.gz")):
        texts = [pair["question"], *_sentences(pair.get("answer") or "")]
        yield f"medicine {number}", [("", text) for text in texts]
    for part in ("train", "dev", "test"):
        for number, line in enumerate(_text(data / "sib200" / f"{part}.tsv.gz").splitlines()[1:]):
            language, _, _, text = line.split("\t", 3)
            yield f"news {language} {part} {number}", [("", text)]


def _text(path: Path) -> str:
    return gzip.decompress(path.read_bytes()).decode()


def _lines(path: Path) -> Iterator[Any]:
    return map(json.loads, _text(path).splitlines())


def _sentences(text: str) -> list[str]:
    ends = re.split(r"(?<=[.!?])\s+", " ".join(text.split()))
    return [sentence for sentence in ends if len(sentence) > 15]
