"""Tasks of finding: which documents of a collection answer a question."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

from everlong.engine.llm import LLM
from everlong.evaluation.data import Data
from everlong.evaluation.task import Example, Run, Sample, Settings, Task

CUTS = (1, 5, 10, 20)


@dataclass(frozen=True)
class Document:
    """Something that can be found."""

    id: str
    text: str


@dataclass(frozen=True)
class Search(Example):
    """A question and the documents that answer it."""

    collection: str
    query: str
    relevant: frozenset[str]


class Ranker(Protocol):
    """Finds documents of one collection."""

    def search(self, query: str, most: int) -> list[str]:
        """Ids of the documents, best first."""


RankerOf = Callable[[LLM, Sequence[Document]], Ranker]
"""Makes a ranker for a collection."""


@dataclass(frozen=True)
class RetrievalTask(Task[Search]):
    """Questions whose evidence is looked for; ``recall@k``: the share of it among the first k."""

    collections: Callable[[Data], Mapping[str, Sequence[Document]]]
    read: Callable[[Data], list[Search]]
    ranker: RankerOf

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`Task`."""
        return ("recall@10", *(f"recall@{k}" for k in CUTS if k != 10))

    def examples(self, data: Data, settings: Settings) -> list[Search]:
        """See :class:`Task`."""
        return self.read(data)

    def answers(self, run: Run, examples: Sequence[Search]) -> Iterator[Sample]:
        """See :class:`Task`."""
        collections = self.collections(run.data)
        rankers: dict[str, Ranker] = {}
        for search in examples:
            if search.collection not in rankers:
                rankers[search.collection] = self.ranker(run.llm, collections[search.collection])
            found = rankers[search.collection].search(search.query, CUTS[-1])
            wanted = search.relevant
            scores = {f"recall@{k}": len(wanted & set(found[:k])) / len(wanted) for k in CUTS}
            record = {"query": search.query, "found": found, "relevant": sorted(wanted)}
            yield Sample(search.id, search.group, scores, record)


class Bm25:
    """Words, weighed by BM25 (Robertson and Zaragoza 2009), as SQLite's FTS5 has it."""

    def __init__(self, documents: Sequence[Document]) -> None:
        self._ids = [document.id for document in documents]
        self._connection = sqlite3.connect(":memory:")
        self._connection.execute("create virtual table t using fts5(text, tokenize=porter)")
        self._connection.executemany(
            "insert into t(rowid, text) values (?, ?)",
            [(n, document.text) for n, document in enumerate(documents)],
        )

    def search(self, query: str, most: int) -> list[str]:
        """See :class:`Ranker`; documents that share no word with the query are not found."""
        words = " OR ".join(f'"{word}"' for word in re.findall(r"\w+", query))
        if not words:
            return []
        with closing(self._connection.cursor()) as cursor:
            rows = cursor.execute(
                "select rowid from t where t match ? order by bm25(t), rowid limit ?", (words, most)
            )
            return [self._ids[row[0]] for row in rows]


class Encoder:
    """The model's own states, compared by their angle."""

    def __init__(self, llm: LLM, documents: Sequence[Document]) -> None:
        self._llm = llm
        self._ids = [document.id for document in documents]
        self._vectors = llm.encode([document.text for document in documents])
        self._centre = self._vectors.mean(0)  # states of all texts lean to one side

    def search(self, query: str, most: int) -> list[str]:
        """See :class:`Ranker`."""
        vector = self._llm.encode([query])[0] - self._centre
        centred = self._vectors - self._centre
        scores = centred @ vector / centred.norm(dim=-1).clamp_min(1e-9)
        return [self._ids[i] for i in scores.topk(min(most, len(self._ids))).indices.tolist()]
