"""Facts that are forgotten, looked for in every byte of the folder, and asked for again.

Of the twenty conversations five are kept; of five each fact is forgotten by a query (its value),
of five by the episodes that have the value, and five are forgotten whole. These are told last:
what another conversation says again is another text, and stays.

A forgotten fact was treated ``as_asked`` when its value was in the files before and is in none any
more, neither as text nor as tokens, and when it is neither recalled nor answered after a restart; a
kept one when it is still in the files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from everlong.evaluation.answers import says
from everlong.evaluation.data import Data
from everlong.evaluation.remembering import MemoryTask, Remembering
from everlong.evaluation.task import Run, Sample, Settings
from everlong.evaluation.tasks.memory.facts import Fact, ask, facts, tell
from everlong.memory.operations import MOST_ON_A_PAGE
from everlong.tokenizer import Tokenizer

_KEPT, _QUERY, _EPISODES, _SESSION = _WAYS = ("kept", "by query", "by episodes", "by session")


@dataclass(frozen=True)
class FactsForget(MemoryTask[Fact]):
    """Whether what is forgotten is gone, and nothing else."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`Task`."""
        return ("as_asked", "recalled_before", "recalled", "in_files_before", "in_files")

    def examples(self, data: Data, settings: Settings) -> list[Fact]:
        """See :class:`Task`; the part is the way in which a fact is forgotten."""
        told = facts(settings.seed)
        return [
            replace(fact, group=_WAYS[n * len(_WAYS) // len(told)]) for n, fact in enumerate(told)
        ]

    def answers(self, run: Run, examples: Sequence[Fact]) -> Iterator[Sample]:
        """See :class:`Task`."""
        every = self.examples(run.data, run.settings)
        with TemporaryDirectory(prefix="everlong-eval-") as name:
            folder = Path(name)
            tell(run, folder, every)
            held_before = in_files(folder, every, run.llm.tokenizer)
            with Remembering(run, folder) as remembering:
                before = [ask(remembering, fact) for fact in examples]
                _forget(remembering, every)
            held = in_files(folder, every, run.llm.tokenizer)
            with Remembering(run, folder) as remembering:
                for fact, earlier in zip(examples, before, strict=True):
                    reply = ask(remembering, fact)
                    recalled = fact.is_in(reply.notes)
                    left = fact.id in held
                    gone = not (left or recalled or says(reply.text, fact.value))
                    as_asked = left if fact.group == _KEPT else fact.id in held_before and gone
                    scores = {
                        "as_asked": float(as_asked),
                        "recalled_before": float(fact.is_in(earlier.notes)),
                        "recalled": float(recalled),
                        "in_files_before": float(fact.id in held_before),
                        "in_files": float(left),
                    }
                    record = {
                        "told": fact.text,
                        "question": fact.question,
                        "notes_before": earlier.notes,
                        "answer_before": earlier.text,
                        "notes": reply.notes,
                        "answer": reply.text,
                        "target": fact.value,
                    }
                    yield Sample(fact.id, fact.group, scores, record)


def in_files(folder: Path, told: Sequence[Fact], tokenizer: Tokenizer) -> set[str]:
    """Ids of the facts whose value any file has, as text in any capitals or as token ids."""
    texts = {fact.id: fact.value.lower().encode() for fact in told}
    tokens = {fact.id: _token_bytes(tokenizer, fact.value) for fact in told}
    found: set[str] = set()
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes().rstrip(b"\0")  # files of blocks are made before they fill
            found |= {name for name, value in tokens.items() if value in content}
            content = content.lower()
            found |= {name for name, value in texts.items() if value in content}
    return found


def _token_bytes(tokenizer: Tokenizer, value: str) -> bytes:
    """A word's token ids as transcripts and blocks have them."""
    ids = tokenizer.encode(f" {value}", special=False, bos=False)
    return struct.pack(f"<{len(ids)}i", *ids)


def _forget(remembering: Remembering, every: Sequence[Fact]) -> None:
    for fact in every:
        if fact.group == _QUERY:
            remembering.perform("forget", query=fact.value)
        elif fact.group == _EPISODES:
            remembering.perform("forget", episodes=_episodes_with(remembering, fact))
    for session in dict.fromkeys(fact.session for fact in every if fact.group == _SESSION):
        remembering.perform("forget", session=session)


def _episodes_with(remembering: Remembering, fact: Fact) -> list[str]:
    """Ids of the episodes whose text has the value."""
    found: list[str] = []
    after: str | None = None
    while True:
        page = remembering.perform("list_episodes", limit=MOST_ON_A_PAGE, after=after)
        found += [one["id"] for one in page["data"] if fact.is_in(one["text"])]
        after = page["next"]
        if after is None:
            return found


TASK = FactsForget("facts_forget", 1)
