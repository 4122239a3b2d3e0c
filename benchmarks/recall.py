"""Recall: which turns of long conversations answer a question, and when nothing should be said.

LoCoMo (Maharana et al. 2024): turns are episodes, evidence recall@10, questions of categories 1 to
4 whose evidence names turns. The weights of recall were fitted on the first five conversations;
figures are of the other five. Baselines have the same texts: speaker, date, words, and the captions
of shared images.

Usage: ``python benchmarks/recall.py --json --data FOLDER``.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # run as a file
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from benchmarks import recall_million
from benchmarks.locomo import Conversation, Question, conversations
from benchmarks.memory import GOALS, RECALL
from benchmarks.report import Measured, compare, say, write_results
from everlong.checkpoint.catalog import resolve
from everlong.engine.embedders import ModelEmbedder, SentenceEmbedder
from everlong.engine.loading import load
from everlong.errors import EverlongError
from everlong.evaluation.data import Data
from everlong.evaluation.retrieval import Bm25, Document
from everlong.memory.episodes import NewEpisode
from everlong.memory.memory import Memory
from everlong.memory.recall import Embedder, document

FITTED = 5
"""Conversations that weights were fitted on."""
SEED = 0
_INGESTED = 100_000


Search = Callable[[str], list[str]]
"""Ids of the ten best turns for a question."""


class Remembered:
    """A conversation in a memory of its own."""

    def __init__(self, talk: Conversation, folder: Path, embedder: Embedder) -> None:
        self.memory = Memory(folder, 1 << 20)
        self.memory.recall.embedder = embedder
        self.owner = self.memory.namespace().id
        self.episodes = self.memory.episodes.add(self.owner, [t.episode for t in talk.turns])
        self.ids = {e.id: t.id for e, t in zip(self.episodes, talk.turns, strict=True)}
        while self.memory.recall.embed_some(256):
            pass

    def search(self, query: str) -> list[str]:
        """See ``Search``."""
        found = self.memory.recall.search(self.owner, query, limit=10)
        return [self.ids[one.episode.id] for one in found]

    def notes(self, query: str) -> list[str]:
        """What would be put into a prompt."""
        found = self.memory.recall.notes(
            self.owner, query, budget=512, count=lambda episode: len(episode.text) // 4 + 1
        )
        return [self.ids[one.episode.id] for one in found]


def recall_at_10(questions: Sequence[Question], search: Search) -> list[float]:
    """Share of the evidence among the first ten, for each question."""
    return [len(q.evidence & set(search(q.text)[:10])) / len(q.evidence) for q in questions]


def dense(texts: Sequence[str], ids: Sequence[str], embedder: Embedder) -> Search:
    """Cosines alone."""
    vectors = embedder.documents(texts)

    def search(query: str) -> list[str]:
        scores = vectors @ embedder.queries([query])[0]
        return [ids[at] for at in np.argsort(-scores)[:10]]

    return search


def measure_locomo(
    talks: Sequence[Conversation], folder: Path, sentences: Embedder, words: Embedder
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Evidence recall beside the baselines, and abstaining."""
    kinds: list[str] = []
    scores: dict[str, list[float]] = {}
    told: dict[str, list[float]] = {"answerable": [], "unanswerable": [], "renamed": []}
    draw = random.Random(SEED)
    for number, talk in enumerate(talks):
        kept = Remembered(talk, folder / f"sentences-{number}", sentences)
        default = Remembered(talk, folder / f"words-{number}", words)
        texts, ids = [document(e) for e in kept.episodes], [t.id for t in talk.turns]
        bm25 = Bm25([Document(i, text) for i, text in zip(ids, texts, strict=True)])
        searches: dict[str, Search] = {
            "everlong, minilm": kept.search,
            "everlong, the model's words": default.search,
            "bm25": lambda query, bm25=bm25: bm25.search(query, 10),  # type: ignore[misc]
            "minilm": dense(texts, ids, sentences),
        }
        kinds += [q.kind for q in talk.questions]
        for name, search in searches.items():
            scores.setdefault(name, []).extend(recall_at_10(talk.questions, search))
        told["answerable"] += [float(bool(kept.notes(q.text))) for q in talk.questions]
        for other in talks:
            if other is not talk:
                for asked in draw.sample(other.questions, min(50, len(other.questions))):
                    text = asked.text
                    told["unanswerable"].append(float(bool(kept.notes(text))))
                    for theirs, ours in zip(other.speakers, talk.speakers, strict=True):
                        text = re.sub(rf"\b{re.escape(theirs)}\b", ours, text)
                    told["renamed"].append(float(bool(kept.notes(text))))
        kept.memory.close()
        default.memory.close()
    mean = {name: 100 * float(np.mean(values)) for name, values in scores.items()}
    by_kind = {
        kind: {
            name: round(
                100 * float(np.mean([v for v, k in zip(values, kinds, strict=True) if k == kind])),
                1,
            )
            for name, values in scores.items()
        }
        for kind in sorted(set(kinds))
    }
    ours = scores["everlong, minilm"]
    lost = [value * (1 - kept) for value, kept in zip(ours, told["answerable"], strict=True)]
    about = f"{len(kinds)} questions on {', '.join(talk.name for talk in talks)}"
    summary = ", ".join(f"{name} {value:.1f} %" for name, value in mean.items())
    intruding = {name: 100 * float(np.mean(values)) for name, values in told.items()}
    return {
        "locomo_recall10_minus_bm25": Measured(
            mean["everlong, minilm"] - mean["bm25"], f"{summary}; {about}"
        ),
        "locomo_recall10_minus_dense": Measured(
            mean["everlong, minilm"] - mean["minilm"], f"{summary}; {about}"
        ),
        "unanswerable_questions_with_injection": Measured(
            intruding["unanswerable"],
            f"{len(told['unanswerable'])} questions of other conversations; with their names "
            f"replaced by this conversation's {intruding['renamed']:.1f} %",
        ),
        "answerable_points_lost_to_abstaining": Measured(
            100 * float(np.mean(lost)),
            f"notes for {intruding['answerable']:.1f} % of {len(kinds)} questions",
        ),
    }, {"mean": mean, "by_kind": by_kind, "notes": intruding}


def passages(data: Path) -> Iterator[str]:
    """Overlapping passages of 20 words of real books, as many as are asked for."""
    books = Data(data)
    for name in books.names("books/*.txt"):
        words = books.text(name).split()
        for start in range(0, len(words) - 20, 3):
            yield " ".join(words[start : start + 20])


def measure_ingest(data: Path, folder: Path) -> Measured:
    """Episodes a second, durable, in batches of 64, without embeddings."""
    texts = [text for text, _ in zip(passages(data), range(_INGESTED), strict=False)]
    with Memory(folder / "ingest", 1 << 20) as memory:
        owner = memory.namespace().id
        start = time.perf_counter()
        for at in range(0, len(texts), 64):
            batch = [NewEpisode(text, source="books") for text in texts[at : at + 64]]
            memory.episodes.add(owner, batch)
        seconds = time.perf_counter() - start
    rate = len(texts) / seconds
    return Measured(rate, f"{len(texts):,} passages of books in durable batches of 64")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--data", type=Path, default=Path("data"), help="folder of the data sets")
    parser.add_argument("--json", action="store_true", help="the report's JSON is the last line")
    parser.add_argument("--quick", action="store_true", help="what fits in ten minutes")
    parser.add_argument("--results", type=Path, help="file for the single measurements")
    parser.add_argument("--fitted", action="store_true", help="the conversations fitted on instead")
    options = parser.parse_args(arguments)
    measured: dict[str, Measured] = {}
    samples: dict[str, Any] = {}
    try:
        talks = conversations(options.data)
        talks = talks[:FITTED] if options.fitted else talks[FITTED:]
        with ExitStack() as opened:
            folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
            sentences = SentenceEmbedder("minilm-l6")
            opened.callback(sentences.close)
            llm = opened.enter_context(load(resolve("smollm2-135m")))
            words = ModelEmbedder(llm)
            measured, samples = measure_locomo(talks, folder, sentences, words)
            measured["ingest_rate"] = measure_ingest(options.data, folder)
            if not options.quick:
                found, samples["million"] = recall_million.measure(
                    options.data, folder, words, talks, SEED, say
                )
                measured |= found
    except (EverlongError, OSError, RuntimeError) as error:
        print(f"recall: {error}", file=sys.stderr)
        return 2
    for name in RECALL:
        measured.setdefault(name, Measured(None, "not measured with --quick"))
    report = compare("recall", {name: GOALS[name] for name in RECALL}, measured)
    print(report.table())
    print(json.dumps(samples, indent=1))
    if options.results:
        write_results(report, options.results, seed=SEED, versions={}, samples=samples)
    if options.json:
        print(report.line())
    return 0


if __name__ == "__main__":
    sys.exit(main())
