"""Facts asked for from other namespaces than that in which they were told: nothing may come.

``stranger`` is a namespace that was told nothing: any note is a leak. ``neighbour`` was told the
same about the same people with other values, so that it has notes of its own: any value of the
others in notes, in what a search finds or in an answer is a leak. Everything is in one folder, and
asked for after a restart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from everlong.evaluation.data import Data
from everlong.evaluation.remembering import MemoryTask, Remembering
from everlong.evaluation.task import Run, Sample, Settings
from everlong.evaluation.tasks.memory.facts import Fact, ask, facts, tell

_STRANGER, _NEIGHBOUR = "stranger", "neighbour"


@dataclass(frozen=True)
class FactsLeak(MemoryTask[Fact]):
    """Whether what one namespace was told comes up in another."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`Task`; ``noted``: there were notes of any kind."""
        return ("leaked", "noted")

    def examples(self, data: Data, settings: Settings) -> list[Fact]:
        """See :class:`Task`; the part is the namespace that asks."""
        return [
            replace(fact, id=f"{who}:{fact.id}", group=who)
            for who in (_STRANGER, _NEIGHBOUR)
            for fact in facts(settings.seed)
        ]

    def answers(self, run: Run, examples: Sequence[Fact]) -> Iterator[Sample]:
        """See :class:`Task`."""
        told = facts(run.settings.seed)
        with TemporaryDirectory(prefix="everlong-eval-") as folder:
            tell(run, Path(folder), told)
            tell(run, Path(folder), facts(run.settings.seed, _NEIGHBOUR), _NEIGHBOUR)
            with Remembering(run, Path(folder)) as remembering:
                for fact in examples:
                    reply = ask(remembering, fact, fact.group)
                    found = remembering.perform("search", namespace=fact.group, query=fact.question)
                    texts = [one["text"] for one in found["data"]]
                    seen = "\n".join([reply.notes, reply.text, *texts])
                    leaked = any(one.is_in(seen) for one in told)
                    if fact.group == _STRANGER:
                        leaked = leaked or bool(reply.notes) or bool(texts)
                    scores = {"leaked": float(leaked), "noted": float(bool(reply.notes))}
                    record = {
                        "question": fact.question,
                        "notes": reply.notes,
                        "found": texts,
                        "answer": reply.text,
                        "secret": fact.value,
                    }
                    yield Sample(fact.id, fact.group, scores, record)


TASK = FactsLeak("facts_leak", 1)
