"""LoCoMo (Maharana et al. 2024): turns as episodes, and questions with the turns that answer them.

Questions are those of categories 1 to 4 whose evidence names turns.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from everlong.evaluation.tasks.memory.locomo_evidence import KINDS
from everlong.memory.episodes import NewEpisode


@dataclass(frozen=True)
class Turn:
    """One turn of a conversation."""

    id: str
    episode: NewEpisode


@dataclass(frozen=True)
class Question:
    """A question and the turns that answer it."""

    kind: str
    text: str
    evidence: frozenset[str]


@dataclass(frozen=True)
class Conversation:
    """Two people over months."""

    name: str
    speakers: tuple[str, str]
    turns: list[Turn]
    questions: list[Question]


def conversations(data: Path) -> list[Conversation]:
    """LoCoMo's conversations, in the order of the file."""
    found = []
    for sample in json.loads((data / "locomo" / "locomo10.json").read_text()):
        talk, turns = sample["conversation"], []
        chats = [name for name in talk if re.fullmatch(r"session_\d+", name)]
        for chat in sorted(chats, key=lambda name: int(name.split("_")[1])):
            date = datetime.strptime(talk[f"{chat}_date_time"], "%I:%M %p on %d %B, %Y")
            for turn in talk[chat]:
                text = f"{turn['text']} {turn.get('blip_caption', '')}".strip()
                episode = NewEpisode(text, chat, "chat", turn["speaker"], date.timestamp())
                turns.append(Turn(turn["dia_id"], episode))
        known = {turn.id for turn in turns}
        questions = []
        for asked in sample["qa"]:
            named = set(re.findall(r"D\d+:\d+", " ".join(map(str, asked["evidence"])))) & known
            if named and asked["category"] < 5:
                kind = KINDS[asked["category"]]
                questions.append(Question(kind, str(asked["question"]), frozenset(named)))
        speakers = (talk["speaker_a"], talk["speaker_b"])
        found.append(Conversation(sample["sample_id"], speakers, turns, questions))
    return found
