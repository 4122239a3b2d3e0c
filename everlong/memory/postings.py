"""Which episodes have a word, for namespaces in which common words are in very many.

SQLite's FTS5 scores every episode that has any of the words, a microsecond each, which is too long
where a word is in fifty thousand. Here the lists of episodes are kept (the ones used last), the
episodes that have the most of the words' rarity are found by adding up arrays, and only those are
scored by BM25, as if they had each word once (Robertson and Zaragoza 2009). In short texts that is
nearly always so.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from everlong.memory.episodes import Episodes

MOST = 50_000
"""A word of more episodes than this says little, and takes long to read: it is not looked for."""
_KEPT_ROWS = 20_000_000
"""Entries of all lists that are kept; 8 bytes each."""
_SCORED = 4
"""So many times as many as are wanted are scored."""
_K1, _B = 1.2, 0.75
"""As in FTS5."""
_SAMPLE = 1000
"""Episodes of which the mean length is taken."""

Key = tuple[bytes, str]


class Postings:
    """Lists of the episodes that have a word. Safe to use from several threads.

    Args:
        episodes: where they are.
    """

    def __init__(self, episodes: Episodes) -> None:
        self._episodes = episodes
        self._lists: OrderedDict[Key, NDArray[np.int64]] = OrderedDict()
        self._rows = 0
        self._lengths: dict[bytes, tuple[float, int]] = {}
        self._lock = threading.Lock()

    def of(self, namespace: bytes, word: str) -> NDArray[np.int64]:
        """Numbers of the episodes that have a word, in whatever form, ascending.

        Of a word of more than ``MOST``, one more than that.
        """
        with self._lock:
            known = self._lists.get((namespace, word), np.empty(0, np.int64))
            after = int(known[-1]) if len(known) else 0
            later = self._episodes.words.having(namespace, word, after, MOST + 1 - len(known))
            if len(later):
                known = np.concatenate((known, later))
            self._keep((namespace, word), known)
            return known

    def known(self, namespace: bytes, word: str) -> int | None:
        """How many episodes had a word when its list was read; None: there is no list."""
        with self._lock:
            found = self._lists.get((namespace, word))
        return None if found is None else len(found)

    def best(
        self, namespace: bytes, words: Sequence[str], episodes: int, count: int
    ) -> dict[int, float]:
        """Numbers of the episodes that have the rarest of some words and the most of them.

        Args:
            namespace: whose.
            words: each once.
            episodes: how many episodes there are.
            count: most that are told.

        Returns:
            Scores by number, of the size of BM25's in FTS5.
        """
        lists = {word: self.of(namespace, word) for word in words}
        lists = {word: rows for word, rows in lists.items() if 0 < len(rows) <= MOST}
        if not lists:
            return {}
        weights = {word: rarity(len(rows), episodes) for word, rows in lists.items()}
        size = max(int(rows[-1]) for rows in lists.values()) + 1
        sums = np.zeros(size, np.float32)
        for word, rows in lists.items():
            sums[rows] += weights[word]
        wanted = _SCORED * count
        # A row is in as many lists as it has words: so many of the largest hold enough rows.
        values = np.concatenate([sums[rows] for rows in lists.values()])
        rank = min(wanted * len(lists), len(values))
        if not rank:  # all was forgotten meanwhile
            return {}
        least = np.partition(values, len(values) - rank)[len(values) - rank]
        places = np.nonzero(sums >= max(least, np.finfo(np.float32).tiny))[0]
        if len(places) > wanted:
            places = places[np.argpartition(-sums[places], wanted - 1)[:wanted]]
        lengths = self._episodes.lengths(namespace, places.tolist())
        mean = self._mean_length(namespace, episodes)
        scores = {
            number: float(sums[number]) * (_K1 + 1) / (1 + _K1 * (1 - _B + _B * length / mean))
            for number, length in lengths.items()
        }
        first = sorted(scores, key=lambda number: (-scores[number], number))[:count]
        return {number: scores[number] for number in first}

    def forget(self, namespace: bytes, numbers: Sequence[int]) -> None:
        """Episodes with these numbers were removed."""
        with self._lock:
            for key, rows in list(self._lists.items()):
                if key[0] == namespace:
                    left = np.setdiff1d(rows, numbers, assume_unique=True)
                    self._rows += len(left) - len(rows)
                    self._lists[key] = left
            self._lengths.pop(namespace, None)

    def _keep(self, key: Key, rows: NDArray[np.int64]) -> None:
        if key in self._lists:
            self._rows -= len(self._lists.pop(key))
        self._lists[key] = rows
        self._rows += len(rows)
        while self._rows > _KEPT_ROWS and len(self._lists) > 1:
            self._rows -= len(self._lists.popitem(last=False)[1])

    def _mean_length(self, namespace: bytes, episodes: int) -> float:
        """Characters of an episode, about; found again when there are a tenth more."""
        added = self._episodes.added_to[namespace]
        mean, then = self._lengths.get(namespace, (0.0, 0))
        if not mean or (added - then) * 10 > episodes:
            mean = self._episodes.mean_length(namespace, _SAMPLE)
            self._lengths[namespace] = mean, added
        return mean or 100.0


def rarity(having: int, episodes: int) -> float:
    """BM25's weight of a word, as FTS5 has it but for words in every other episode: those say 0."""
    having = min(having, episodes)
    return max(float(np.log((episodes - having + 0.5) / (having + 0.5))), 0.0)
