"""Recall: what was said about something, by words and by meaning.

Every episode that words (BM25) or vectors bring up has two scores, each measured against the best
of its kind. Their sum spreads to what was said around it in the same session, since an answer is
rarely in the words of its question; more to what follows a question, and a little to all that a
session has; and who is named in the query is preferred as the speaker. The weights were fitted on
five of LoCoMo's ten conversations (``docs/experiments.md``, section 13). No model is asked besides
the embedder, neither now nor when something is remembered.
"""

from __future__ import annotations

import heapq
import re
import threading
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from everlong.memory.episodes import Episode, Episodes
from everlong.memory.postings import Postings, rarity
from everlong.memory.vectors import EXACT, Vectors

CANDIDATES = 100
"""Episodes that each signal brings up."""

_SPREAD = ((-2, 0.1), (-1, 0.3), (1, 0.3), (2, 0.1))
"""Of an episode's score, what those at these distances get in addition."""
_ANSWERS = 2.0
"""What follows a question gets so many times as much of it."""
_SESSION = 0.1
"""Of the mean of a session's best three scores, what all its candidates get."""
_NAMED = 0.5
"""What an episode gets whose speaker the query names."""
_SHORT = 3
"""A query of fewer words that mean something is asked together with what was said before it."""
MOST_QUERY = 4_000
"""Characters at the end of a query that are looked for. Somebody may send megabytes, which would
take half a minute, while which nobody else is answered in a session."""
_BY_WORDS = -2.8, 8.04, 0.0
"""``Embedder.evidence`` of words alone."""
_THRESHOLD = 0.5
"""Below this nothing is put into a prompt."""
ROWS = 10_000
"""Episodes that SQLite weighs for a query at most, a microsecond each; more are done otherwise."""
_AT_ONCE = 50_000
"""Vectors that are read at once."""
_FEW = 200
"""Episodes below which words are not weighed by how many have them alone."""
_ALIKE = 0.8
"""Share of words in common from which on two texts are near-duplicates (Jaccard)."""

# fmt: off
_STOP = frozenset((
    "a", "about", "an", "and", "are", "as", "at", "be", "been", "but", "by", "can", "could", "did",
    "do", "does", "for", "from", "had", "has", "have", "he", "her", "him", "his", "how", "i", "if",
    "in", "into", "is", "it", "its", "me", "my", "no", "not", "of", "on", "or", "our", "she",
    "should", "so", "than", "that", "the", "their", "them", "then", "there", "they", "this", "to",
    "us", "was", "we", "were", "what", "when", "where", "which", "who", "whom", "whose", "why",
    "will", "with", "would", "you", "your",
))
# fmt: on
"""Words that are in every other sentence."""


class Embedder(Protocol):
    """Makes vectors of texts, of unit length."""

    name: str
    """Changes whenever the vectors would."""
    dimensions: int
    evidence: tuple[float, float, float]
    """Of a logistic regression that tells whether anything was said about a query: its bias, and
    its weights of the words found (their share, by how rare they are) and of the nearest cosine.
    One half is where a tenth of the queries that nothing was said about would pass, or less."""

    def documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of what is found, [n, dimensions]."""

    def queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of what is looked for, [n, dimensions]."""


@dataclass(frozen=True)
class Found:
    """An episode that a query brought up."""

    episode: Episode
    score: float
    """0 to 1: how good it is beside the best, times how sure it is that there is anything."""
    why: Mapping[str, float] = field(default_factory=dict)
    """What it was found by: ``words``, ``meaning``, ``around``, ``speaker``, ``session``."""


class Recall:
    """Recall from a memory's episodes. Safe to use from several threads.

    Args:
        episodes: where they are.
        embedder: makes vectors; None: words and neighbours alone.
        rows: see ``ROWS``.
        exact: see :data:`everlong.memory.vectors.EXACT`.
    """

    def __init__(
        self,
        episodes: Episodes,
        embedder: Embedder | None = None,
        *,
        rows: int = ROWS,
        exact: int = EXACT,
    ) -> None:
        self.embedder = embedder
        self._rows, self._exact = rows, exact
        self._episodes = episodes
        self._vectors: dict[tuple[bytes, str], tuple[Vectors, int]] = {}
        """With ``Episodes.vectors_changed`` when they were read."""
        self._counts: dict[bytes, tuple[int, int]] = {}
        """Episodes of namespaces, and how many had been added when they were counted."""
        self._postings = Postings(episodes)
        self._lock = threading.Lock()

    def search(
        self,
        namespace: bytes,
        query: str,
        *,
        context: Sequence[str] = (),
        limit: int = 10,
        exclude_session: str | None = None,
    ) -> list[Found]:
        """Episodes about something, the best first.

        Args:
            namespace: whose.
            query: a question, or words; of a longer text its last ``MOST_QUERY`` characters.
            context: what was said before it, the latest last.
            limit: most episodes.
            exclude_session: name of a session of which nothing is wanted.
        """
        asked = _asked(query, context)
        frequencies = self._frequencies(namespace, _words(asked))
        by_words = self._by_words(namespace, frequencies)
        by_meaning, nearest = self._by_meaning(namespace, asked)
        found = self._fused(namespace, asked, by_words, by_meaning, exclude_session, limit)
        if not found:
            return []
        sure = self._sure(namespace, frequencies, by_words, nearest)
        best = sum(found[0][1].values())
        numbers = [number for number, _ in found]
        told = {e.number: e for e in self._episodes.numbered(namespace, numbers)}
        return [
            Found(
                told[number],
                sure * sum(why.values()) / best,
                {name: round(score, 4) for name, score in why.items() if score},
            )
            for number, why in found
            if number in told
        ]

    def notes(
        self,
        namespace: bytes,
        query: str,
        *,
        context: Sequence[str] = (),
        budget: int,
        count: Callable[[Episode], int],
        exclude_session: str | None = None,
    ) -> list[Found]:
        """What is worth putting into a prompt: nothing, unless something is likely to help.

        The surer it is, the more of the budget is used; of near-duplicates the best is kept.

        Args:
            namespace, query, context, exclude_session: see :meth:`search`.
            budget: most tokens.
            count: tokens that an episode takes, as it is quoted.
        """
        query = query[-MOST_QUERY:]
        found = self.search(
            namespace, query, context=context, limit=20, exclude_session=exclude_session
        )
        if not found or found[0].score < _THRESHOLD:
            return []
        left = budget * min(1.0, found[0].score)
        kept: list[Found] = []
        for one in found:
            if one.score < found[0].score / 2:
                continue
            # Nor does it help to be told that the same was asked before.
            text = one.episode.text
            if any(_alike(text, told) for told in (query, *(k.episode.text for k in kept))):
                continue
            tokens = count(one.episode)
            if tokens <= left:
                kept.append(one)
                left -= tokens
        return kept

    def forget(self, namespace: bytes, numbers: Sequence[int]) -> None:
        """Episodes with these numbers were removed."""
        with self._lock:
            for key, (vectors, seen) in self._vectors.items():
                if key[0] == namespace:
                    self._vectors[key] = vectors.without(numbers), seen
            self._counts.pop(namespace, None)
        self._postings.forget(namespace, numbers)

    def embed_some(self, limit: int = 64) -> int:
        """Give vectors to the next episodes that have none; returns how many got one."""
        if self.embedder is None:
            return 0
        episodes = self._episodes.without_vector(self.embedder.name, limit)
        if episodes:
            vectors = self.embedder.documents([document(episode) for episode in episodes])
            self._episodes.set_vectors(self.embedder.name, episodes, vectors)
        return len(episodes)

    def _frequencies(self, namespace: bytes, words: Sequence[str]) -> dict[str, int]:
        """How many episodes have each word."""
        found = {}
        for word in words:
            having = self._postings.known(namespace, word) or 0
            if having <= self._rows:
                having = self._episodes.words.frequency(namespace, word, self._rows + 1)
            if having > self._rows:
                having = len(self._postings.of(namespace, word))
            found[word] = having
        return found

    def _by_words(self, namespace: bytes, frequencies: Mapping[str, int]) -> dict[int, float]:
        words = [word for word, having in frequencies.items() if having]
        if not words:
            return {}
        if sum(frequencies.values()) > self._rows:
            count = self._about(namespace)
            return self._postings.best(namespace, words, count, 2 * CANDIDATES)
        match = "body : (" + " OR ".join(f'"{word}"' for word in words) + ")"
        return dict(self._episodes.words.ranked(namespace, match, 2 * CANDIDATES))

    def _by_meaning(self, namespace: bytes, asked: str) -> tuple[dict[int, float], float]:
        """Scores of the nearest by their number, 0 to 1; and the cosine of the nearest."""
        if self.embedder is None:
            return {}, 0.0
        vectors = self._vectors_of(namespace)
        if not len(vectors):
            return {}, 0.0
        query = self.embedder.queries([asked])[0]
        numbers, cosines, mean = vectors.nearest(query, CANDIDATES)
        most = float(cosines[0])
        scores = np.maximum((cosines - mean) / max(most - mean, 1e-6), 0.0)
        return dict(zip(numbers.tolist(), scores.tolist(), strict=True)), most

    def _fused(
        self,
        namespace: bytes,
        asked: str,
        by_words: Mapping[int, float],
        by_meaning: Mapping[int, float],
        exclude_session: str | None,
        limit: int,
    ) -> list[tuple[int, dict[str, float]]]:
        """Numbers of episodes with their scores by signal, the best first. No text is read."""
        top = max(by_words.values(), default=1.0)
        reach = max(distance for distance, _ in _SPREAD)
        near = self._episodes.around_all(namespace, {*by_words, *by_meaning}, reach)
        own: dict[int, float] = {}
        asks: dict[int, bool] = {}
        session_of: dict[int, tuple[str | None, str | None]] = {}
        by_session: dict[tuple[str | None, str | None], list[float]] = defaultdict(list)
        for number, distance, _, _, session, source, question in near:
            if distance == 0 and (exclude_session is None or session != exclude_session):
                own[number] = by_words.get(number, 0.0) / top + by_meaning.get(number, 0.0)
                asks[number] = bool(question)
                session_of[number] = session, source
                by_session[session, source].append(own[number])
        in_session = {key: _SESSION * sum(sorted(s)[-3:]) / 3 for key, s in by_session.items()}
        shares = dict(_SPREAD)
        names = set(re.findall(r"\w+", asked.lower()))
        around: dict[int, float] = defaultdict(float)
        speaker: dict[int, float] = {}
        for number, distance, other, name, *_ in near:
            if number in own:
                if distance:
                    times = _ANSWERS if distance == 1 and asks[number] else 1.0
                    around[other] += shares[distance] * times * own[number]
                    session_of[other] = session_of[number]
                speaker[other] = _NAMED if name.lower() in names else 0.0
        scores = {
            number: own.get(number, 0.0)
            + around.get(number, 0.0)
            + in_session[session_of[number]]
            + named
            for number, named in speaker.items()
            if own.get(number) or around.get(number)
        }
        best = heapq.nsmallest(limit, scores, key=lambda number: (-scores[number], number))
        return [
            (
                number,
                {
                    "words": by_words.get(number, 0.0) / top,
                    "meaning": by_meaning.get(number, 0.0),
                    "around": around.get(number, 0.0),
                    "session": in_session[session_of[number]],
                    "speaker": speaker[number],
                },
            )
            for number in best
        ]

    def _sure(
        self,
        namespace: bytes,
        frequencies: Mapping[str, int],
        by_words: Mapping[int, float],
        nearest: float,
    ) -> float:
        """How sure it is that something was said about it, 0 to 1."""
        count = self._about(namespace)
        if count < _FEW:
            share = self._said(namespace, frequencies, by_words, count)
        else:
            # What a text with each word alone would score, about.
            possible = sum(rarity(having, count) for having in frequencies.values())
            share = max(by_words.values(), default=0.0) / max(possible, 1e-6)
        bias, by_word, by_cosine = self.embedder.evidence if self.embedder else _BY_WORDS
        return float(1 / (1 + np.exp(-(bias + by_word * share + by_cosine * nearest))))

    def _said(
        self,
        namespace: bytes,
        frequencies: Mapping[str, int],
        by_words: Mapping[int, float],
        count: int,
    ) -> float:
        """The share of a query's words that the best text has, by how rare they are.

        In a small memory every word is in a good part of the texts, and BM25 makes nothing of it.
        """
        rare = {
            word: np.log((count + _FEW - having + 0.5) / (having + 0.5))
            for word, having in frequencies.items()
        }
        best = 0.0
        for episode in self._episodes.numbered(namespace, list(by_words)[:CANDIDATES]):
            words = re.findall(r"\w+", episode.text.lower())
            # Roughly what porter's stems have in common.
            beginnings = {word: word[: max(3, len(word) - 2)] for word in rare}
            best = max(
                best,
                sum(rare[w] for w, b in beginnings.items() if any(x.startswith(b) for x in words)),
            )
        return float(best / max(sum(rare.values()), 1e-6))

    def _about(self, namespace: bytes) -> int:
        """How many episodes a namespace has, to a hundredth: many take long to count."""
        added = self._episodes.added_to[namespace]
        count, then = self._counts.get(namespace, (0, -1))
        if (added - then) * 100 > count:
            count = self._episodes.count(namespace)
            self._counts[namespace] = count, added
        return count

    def _vectors_of(self, namespace: bytes) -> Vectors:
        assert self.embedder is not None, "only embedders make vectors"
        name = self.embedder.name
        with self._lock:
            # Read before the vectors: those that come meanwhile are read the next time.
            changed = self._episodes.vectors_changed
            known, seen = self._vectors.get((namespace, name), (Vectors(self._exact), -1))
            if seen != changed:
                while True:
                    later = self._episodes.vectors(namespace, name, known.last, _AT_ONCE)
                    known.append(*later)
                    if len(later[0]) < _AT_ONCE:
                        break
                self._vectors[namespace, name] = known, changed
            return known


def document(episode: Episode) -> str:
    """An episode as embedders read it."""
    return f"{episode.teller} ({episode.day}): {episode.text}"


def _asked(query: str, context: Sequence[str]) -> str:
    query = query[-MOST_QUERY:]
    if len(_words(query)) >= _SHORT or not context:
        return query
    return f"{context[-1]}\n{query}"[-MOST_QUERY:]


def _words(text: str) -> list[str]:
    """Words that mean something, each once."""
    words = dict.fromkeys(re.findall(r"\w+", text.lower()))
    return [word for word in words if word not in _STOP]


def _alike(one: str, other: str) -> bool:
    a, b = ({*re.findall(r"\w+", text.lower())} for text in (one, other))
    return len(a & b) >= _ALIKE * max(len(a | b), 1)
