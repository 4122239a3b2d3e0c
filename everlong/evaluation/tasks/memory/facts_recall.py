"""Facts told in conversations, and asked for in others after a restart.

``recalled``: the value was in the notes before the question; ``answered``: the model said it. The
model cannot know a value otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from everlong.evaluation.answers import says
from everlong.evaluation.data import Data
from everlong.evaluation.remembering import MemoryTask, Remembering
from everlong.evaluation.task import Run, Sample, Settings
from everlong.evaluation.tasks.memory.facts import Fact, ask, facts, tell


@dataclass(frozen=True)
class FactsRecall(MemoryTask[Fact]):
    """Whether facts are recalled after a restart."""

    embedder: str | None
    """Of recall: a sentence encoder, or the words of the model."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`Task`."""
        return ("recalled", "answered")

    def examples(self, data: Data, settings: Settings) -> list[Fact]:
        """See :class:`Task`."""
        return facts(settings.seed)

    def answers(self, run: Run, examples: Sequence[Fact]) -> Iterator[Sample]:
        """See :class:`Task`."""
        with TemporaryDirectory(prefix="everlong-eval-") as folder:
            # All of them: what is found shall not depend on how many are asked for.
            tell(run, Path(folder), facts(run.settings.seed), embedder=self.embedder)
            with Remembering(run, Path(folder), self.embedder) as remembering:
                for fact in examples:
                    reply = ask(remembering, fact)
                    scores = {
                        "recalled": float(fact.is_in(reply.notes)),
                        "answered": float(says(reply.text, fact.value)),
                    }
                    record = {
                        "told": fact.text,
                        "question": fact.question,
                        "notes": reply.notes,
                        "answer": reply.text,
                        "target": fact.value,
                    }
                    yield Sample(fact.id, fact.group, scores, record)


BY_WORDS = FactsRecall("facts_recall", 1, None)
BY_SENTENCES = FactsRecall("facts_recall_minilm", 1, "minilm-l6")
