"""Sets of texts with a label each, for label likelihood and for trained heads."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from everlong.evaluation.data import Data
from everlong.evaluation.likelihood import Choice, choice


@dataclass(frozen=True)
class Labelled:
    """A text and its label."""

    id: str
    text: str
    label: str


Reader = Callable[[Data], list[Labelled]]


@dataclass(frozen=True)
class LabelledSet:
    """A set with a part to learn from and a part to be asked."""

    train: Reader
    test: Reader
    asks: str
    """What follows a text: the label, in words, comes after it."""
    words: Mapping[str, str] | None = None
    """Labels in words; None: as they are written, ``getWeather`` as "get weather"."""

    def prompt(self, text: str) -> str:
        """A text up to where its label is written."""
        return f"{text}\n{self.asks}:"

    def spoken(self, label: str) -> str:
        """A label in words."""
        return in_words(label) if self.words is None else self.words[label]

    def labels(self, texts: Sequence[Labelled]) -> list[str]:
        """Every label there is, in order."""
        return sorted({text.label for text in texts})

    def choices(self, data: Data) -> list[Choice]:
        """Each text of the test part with all labels of the training part as options."""
        return self._choices(self.test(data), self.labels(self.train(data)))

    def solved(self, data: Data) -> list[Choice]:
        """Texts of the training part to show: one of each label in turn."""
        texts = self.train(data)
        labels = self.labels(texts)
        by_label = {label: [t for t in texts if t.label == label] for label in labels}
        longest = max(map(len, by_label.values()))
        turns = [
            by_label[label][i]
            for i in range(longest)
            for label in labels
            if i < len(by_label[label])
        ]
        return self._choices(turns, labels)

    def _choices(self, texts: Sequence[Labelled], labels: Sequence[str]) -> list[Choice]:
        place = {label: i for i, label in enumerate(labels)}
        return [
            choice(
                text.id,
                [(self.prompt(text.text), f" {self.spoken(label)}") for label in labels],
                place.get(text.label),
            )
            for text in texts
        ]


def in_words(label: str) -> str:
    """``AddToPlaylist`` and ``add_to_playlist`` as "add to playlist"."""
    spaced = "".join(f" {c}" if c.isupper() else c for c in label.replace("_", " "))
    return " ".join(spaced.lower().split())


def table(file: str) -> Reader:
    """Reads a table with the columns ``text`` and ``label``."""

    def read(data: Data) -> list[Labelled]:
        rows = data.rows(file, lambda row: (row["text"].strip(), row["label"].strip()))
        return [Labelled(str(n), text, label) for n, (text, label) in enumerate(rows)]

    return read


def leading_label(file: str) -> Reader:
    """Reads lines that begin with their label."""

    def parse(line: Any) -> tuple[str, str]:
        label, text = line.split(" ", 1)
        return text.strip(), label

    def read(data: Data) -> list[Labelled]:
        rows = data.rows(file, parse)
        return [Labelled(str(n), text, label) for n, (text, label) in enumerate(rows)]

    return read


def part_of(read: Reader, test: bool, percent: int = 30) -> Reader:
    """A part of a set that comes in one piece, chosen by the hash of each text."""

    def chosen(text: str) -> bool:
        digest = hashlib.blake2b(text.encode(), digest_size=4).digest()
        return int.from_bytes(digest, "big") % 100 < percent

    return lambda data: [text for text in read(data) if chosen(text.text) == test]
