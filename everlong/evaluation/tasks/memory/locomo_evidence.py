"""LoCoMo (Maharana et al. 2024): which turns of a conversation over months answer a question.

A document is a turn with its speaker and date. Questions whose evidence names no turn of the
conversation are left out. By words (BM25), which needs no model, and by the model's own states.
"""

from __future__ import annotations

import re
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.retrieval import Bm25, Document, Encoder, RetrievalTask, Search

FILE = "locomo/locomo10.json"
KINDS = {1: "multi-hop", 2: "temporal", 3: "open-domain", 4: "single-hop", 5: "adversarial"}


def _documents(content: Any) -> dict[str, list[Document]]:
    found = {}
    for sample in content:
        talk = sample["conversation"]
        turns = []
        for name in talk:
            if re.fullmatch(r"session_\d+", name):
                date = talk.get(f"{name}_date_time", "")
                turns += [
                    Document(t["dia_id"], f"{t['speaker']} ({date}): {t['text']}")
                    for t in talk[name]
                ]
        found[str(sample["sample_id"])] = turns
    return found


def collections(data: Data) -> dict[str, list[Document]]:
    """The turns of each conversation, in order."""
    return data.document(FILE, _documents)


def _read(data: Data) -> list[Search]:
    turns = {name: {d.id for d in documents} for name, documents in collections(data).items()}

    def parse(content: Any) -> list[Search]:
        found = []
        for sample in content:
            name = str(sample["sample_id"])
            for n, asked in enumerate(sample["qa"]):
                # Some are written together: "D8:6; D9:17".
                named = set(re.findall(r"D\d+:\d+", " ".join(map(str, asked["evidence"]))))
                if relevant := frozenset(named & turns[name]):
                    kind = KINDS.get(asked["category"], str(asked["category"]))
                    question = str(asked["question"])
                    found.append(Search(f"{name}:{n}", kind, name, question, relevant))
        return found

    return data.document(FILE, parse)


BY_WORDS = RetrievalTask(
    "locomo_evidence_bm25", 2, collections, _read, lambda llm, documents: Bm25(documents)
)
BY_STATES = RetrievalTask("locomo_evidence_encoder", 2, collections, _read, Encoder)
