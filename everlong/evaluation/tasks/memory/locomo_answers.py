"""LoCoMo (Maharana et al. 2024): questions about a conversation over months, answered in writing.

The model reads the turns that BM25 finds for the question, in their order, not the conversation:
what is measured is answering; finding is measured by ``locomo_evidence_*``. Scored by the words
answer and target share (F1), for answers with several parts the mean over the parts; a question
about what was never said is answered rightly by saying so.
"""

from __future__ import annotations

from typing import Any

from everlong.evaluation.answers import word_f1
from everlong.evaluation.data import Data
from everlong.evaluation.generation import GenerationTask, Question
from everlong.evaluation.retrieval import Bm25
from everlong.evaluation.tasks.memory.locomo_evidence import FILE, KINDS, collections

_TURNS = 15
UNSAID = "not mentioned"


def _read(data: Data) -> list[Question]:
    turns = collections(data)
    finders = {name: Bm25(documents) for name, documents in turns.items()}
    texts = {name: {d.id: d.text for d in documents} for name, documents in turns.items()}

    def parse(content: Any) -> list[Question]:
        found = []
        for sample in content:
            name = str(sample["sample_id"])
            for n, asked in enumerate(sample["qa"]):
                kind = KINDS.get(asked["category"], str(asked["category"]))
                question = str(asked["question"])
                chosen = set(finders[name].search(question, _TURNS))
                notes = "\n".join(text for id, text in texts[name].items() if id in chosen)
                prompt = (
                    f"Parts of a conversation:\n{notes}\n\nAnswer in a few words; say "
                    f'"{UNSAID}" if the conversation does not tell.\n'
                    f"Question: {question}\nAnswer:"
                )
                target = UNSAID if kind == "adversarial" else str(asked["answer"])
                found.append(Question(f"{name}:{n}", kind, prompt, target))
        return found

    return data.document(FILE, parse)


def judge(asked: Question, answer: str) -> dict[str, float]:
    """F1 of the words; of what was never said, whether the answer says so."""
    said = answer.strip().split("\n")[0]
    if asked.group == "adversarial":
        lower = said.lower()
        return {"f1": float(any(w in lower for w in (UNSAID, "not said", "no information")))}
    if asked.group == "multi-hop":
        parts = [part for part in asked.target.split(",") if part.strip()]
        best = [max(word_f1(one, part) for one in said.split(",")) for part in parts]
        return {"f1": sum(best) / len(best)}
    return {"f1": word_f1(said, asked.target)}


TASK = GenerationTask(
    "locomo_answers", 1, _read, judge, max_tokens=32, stop=("\n",), judged_by=("f1",)
)
