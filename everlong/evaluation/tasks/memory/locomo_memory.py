"""LoCoMo (Maharana et al. 2024) through the memory itself: told, restarted, asked.

The conversations on which recall's weights were not fitted, the sixth and those after it. Every
turn is an episode with its speaker, its date and the captions of its images; each conversation has
a namespace of its own, all in one folder, which another process opens then. A question is asked in
a new session, which recalls what it can and is forgotten afterwards. The same question goes to the
same model without a memory (``…_alone``), and, for its notes only, to a namespace that was told
nothing (``leaked``). Of the questions that have an answer those are left out whose evidence names
no turn, as in ``locomo_evidence_*``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from everlong.engine.request import SamplingParams
from everlong.evaluation.answers import first_line, says
from everlong.evaluation.data import Data
from everlong.evaluation.generation import Question
from everlong.evaluation.remembering import MemoryTask, Remembering
from everlong.evaluation.task import Run, Sample, Settings
from everlong.evaluation.tasks.memory import locomo_answers
from everlong.evaluation.tasks.memory.locomo_evidence import FILE, KINDS
from everlong.memory.episodes import NewEpisode
from everlong.memory.memory import Memory

_FITTED = 5
"""Conversations that recall's weights were fitted on."""
_INSTRUCTION = (
    f'Answer in a few words; say "{locomo_answers.UNSAID}" if the conversations do not tell.'
)
_ANSWER_TOKENS = 32
_STRANGER = "stranger"
_AT_ONCE = 16
"""Questions that are asked without a memory together, before they are asked with it: so that two
processes do not compute at a time."""


@dataclass(frozen=True, kw_only=True)
class Asked(Question):
    """A question about a conversation."""

    conversation: str
    evidence: frozenset[str]
    """Turns that answer it."""


@dataclass(frozen=True)
class Heard:
    """What came back for a question."""

    answer: str
    alone: str
    """The answer of the model without a memory."""
    notes: str
    """What was recalled, as it stood in the prompt."""
    turns: frozenset[str]
    """The turns in the notes."""
    leaked: bool
    """There were notes in a namespace that was told nothing."""


@dataclass(frozen=True)
class LocomoMemory(MemoryTask[Asked]):
    """Questions about conversations that were told before a restart."""

    kinds: tuple[int, ...]
    """Categories of LoCoMo."""
    judge: Callable[[Asked, Heard], Mapping[str, float]]
    judged_by: tuple[str, ...]
    """What ``judge`` returns; the first is the task's figure."""
    embedder: str | None = None
    """Of recall: a sentence encoder, or the words of the model."""

    @property
    def metrics(self) -> tuple[str, ...]:
        """See :class:`Task`."""
        return self.judged_by

    def examples(self, data: Data, settings: Settings) -> list[Asked]:
        """See :class:`Task`."""
        return questions(data, self.kinds)

    def answers(self, run: Run, examples: Sequence[Asked]) -> Iterator[Sample]:
        """See :class:`Task`."""
        with TemporaryDirectory(prefix="everlong-eval-") as name:
            turn_of = _told(run.data, Path(name), {asked.conversation for asked in examples})
            with Remembering(run, Path(name), self.embedder) as remembering:
                for start in range(0, len(examples), _AT_ONCE):
                    few = examples[start : start + _AT_ONCE]
                    for asked, alone in zip(few, _alone(run, few), strict=True):
                        heard = _heard(remembering, asked, alone, turn_of)
                        record = {
                            "question": asked.prompt,
                            "notes": heard.notes,
                            "answer": heard.answer,
                            "answer_alone": alone,
                            "target": asked.target,
                            "evidence": sorted(asked.evidence),
                            "recalled": sorted(heard.turns),
                        }
                        scores = self.judge(asked, heard)
                        yield Sample(asked.id, asked.group, scores, record)


def conversations(data: Data) -> dict[str, dict[str, NewEpisode]]:
    """The turns of the conversations on which nothing was fitted, by id, in their order."""

    def parse(content: Any) -> dict[str, dict[str, NewEpisode]]:
        found = {}
        for sample in content[_FITTED:]:
            talk = sample["conversation"]
            chats = [name for name in talk if re.fullmatch(r"session_\d+", name)]
            turns = {}
            for chat in sorted(chats, key=lambda name: int(name.split("_")[1])):
                date = datetime.strptime(talk[f"{chat}_date_time"], "%I:%M %p on %d %B, %Y")
                for turn in talk[chat]:
                    text = f"{turn['text']} {turn.get('blip_caption', '')}".strip()
                    turns[str(turn["dia_id"])] = NewEpisode(
                        text, chat, speaker=turn["speaker"], time=date.timestamp()
                    )
            found[str(sample["sample_id"])] = turns
        return found

    return data.document(FILE, parse)


def questions(data: Data, kinds: Sequence[int]) -> list[Asked]:
    """The questions of some categories about these conversations."""
    turns = conversations(data)

    def parse(content: Any) -> list[Asked]:
        found = []
        for sample in content[_FITTED:]:
            name = str(sample["sample_id"])
            for n, asked in enumerate(sample["qa"]):
                if asked["category"] not in kinds:
                    continue
                kind = KINDS[asked["category"]]
                named = set(re.findall(r"D\d+:\d+", " ".join(map(str, asked["evidence"]))))
                evidence = frozenset(named & turns[name].keys())
                unsaid = kind == "adversarial"
                if evidence or unsaid:
                    target = locomo_answers.UNSAID if unsaid else str(asked["answer"])
                    found.append(
                        Asked(
                            f"{name}:{n}",
                            kind,
                            str(asked["question"]),
                            target,
                            conversation=name,
                            evidence=evidence,
                        )
                    )
        return found

    return data.document(FILE, parse)


def judge_answer(asked: Asked, heard: Heard) -> dict[str, float]:
    """Words in common with the right answer, the answer in it whole, and evidence recalled."""
    f1, alone = (
        locomo_answers.judge(asked, answer)["f1"] for answer in (heard.answer, heard.alone)
    )
    return {
        "f1": f1,
        "f1_alone": alone,
        "f1_gain": f1 - alone,
        "contains": float(says(first_line(heard.answer), asked.target)),
        "contains_alone": float(says(first_line(heard.alone), asked.target)),
        "evidence": len(asked.evidence & heard.turns) / len(asked.evidence),
        "leaked": float(heard.leaked),
    }


def judge_unsaid(asked: Asked, heard: Heard) -> dict[str, float]:
    """Whether the answer says that there is none; and whether there were notes nevertheless."""
    return {
        "abstained": locomo_answers.judge(asked, heard.answer)["f1"],
        "abstained_alone": locomo_answers.judge(asked, heard.alone)["f1"],
        "noted": float(bool(heard.notes)),
        "leaked": float(heard.leaked),
    }


def _told(data: Data, folder: Path, names: set[str]) -> dict[str, str]:
    """Tell conversations to a memory, and close it; turns by the ids of their episodes."""
    turn_of: dict[str, str] = {}
    with Memory(folder) as memory:
        for name, turns in conversations(data).items():
            if name in names:
                added = memory.episodes.add(memory.namespace(name).id, list(turns.values()))
                turn_of.update(zip((e.id.hex() for e in added), turns, strict=True))
    return turn_of


def _alone(run: Run, few: Sequence[Asked]) -> list[str]:
    """Answers of the model without a memory."""
    sampling = SamplingParams(temperature=0.0, max_tokens=_ANSWER_TOKENS)
    prompts = (
        run.llm.tokenizer.encode_chat(
            [
                {"role": "system", "content": _INSTRUCTION},
                {"role": "user", "content": asked.prompt},
            ]
        )
        for asked in few
    )
    return [done.text for done in run.llm.complete((ids, sampling) for ids in prompts)]


def _heard(remembering: Remembering, asked: Asked, alone: str, turn_of: Mapping[str, str]) -> Heard:
    reply = remembering.ask(
        asked.prompt,
        namespace=asked.conversation,
        system=_INSTRUCTION,
        max_tokens=_ANSWER_TOKENS,
    )
    elsewhere = remembering.ask(
        asked.prompt, namespace=_STRANGER, system=_INSTRUCTION, max_tokens=1
    )
    turns = frozenset(turn_of[one] for one in reply.recalled)
    return Heard(reply.text, alone, reply.notes, turns, bool(elsewhere.notes))


ANSWERS = LocomoMemory(
    "locomo_memory",
    1,
    (1, 2, 3, 4),
    judge_answer,
    ("f1", "f1_alone", "f1_gain", "contains", "contains_alone", "evidence", "leaked"),
)
ANSWERS_BY_SENTENCES = replace(ANSWERS, name="locomo_memory_minilm", embedder="minilm-l6")
UNSAID = LocomoMemory(
    "locomo_memory_unsaid",
    1,
    (5,),
    judge_unsaid,
    ("abstained", "abstained_alone", "noted", "leaked"),
)
