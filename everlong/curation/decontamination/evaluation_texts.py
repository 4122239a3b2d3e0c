"""The texts of evaluation sets, so that training data can be searched for them.

Sets are tasks of :mod:`everlong.evaluation`, whose examples are read as ``everlong eval`` reads
them, and files of rows. What all items of a set begin or end with is the set's template, such as
``Question:`` and ``Answer:``; other copies have other ones, so it is left out.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from everlong.curation.decontamination.word_ngrams import words_of
from everlong.curation.step import Hashes, named_file
from everlong.errors import ConfigError

Slot = tuple[str, str]
"""What has a template of its own: a group of items, and the place of a text in an item."""

_MOST_OPTIONS = 8
"""With more of them, answers are labels that all questions share, and no part of the item."""
_FEWEST = 3
"""Items that a template takes; what two have in common may be chance."""
_READ = (".jsonl", ".json", ".tsv", ".csv", ".txt")


@dataclass(frozen=True)
class Item:
    """One example of an evaluation set."""

    name: str
    """Of the set and the example: ``gsm8k test:12``."""
    texts: tuple[Hashes, ...]
    """Hashes of the words of its texts, without the set's template."""
    complete: bool = False
    """Whether each text is all of it, such as a question with one of its options; else it is all of
    them together."""


@dataclass(frozen=True)
class _Raw:
    name: str
    texts: list[list[tuple[Slot, str]]]
    """Each text is made of parts."""
    complete: bool = False


def items_of_task(name: str, data: Path) -> list[Item]:
    """The examples of a task.

    Args:
        name: as ``everlong eval`` knows it.
        data: folder of its data.

    Raises:
        ConfigError: there is no such task.
        MissingDataError: its data is not there.
    """
    from everlong.evaluation.data import Data
    from everlong.evaluation.task import Settings

    task = _tasks().get(name)
    if task is None:
        raise ConfigError(f"there is no task {name!r}; there are: {', '.join(_tasks())}")
    examples = task.examples(Data(data), Settings(shots=0))
    return _without_templates([_raw(name, example) for example in examples])


def items_of_file(path: Path) -> list[Item]:
    """The rows of a file, each with all texts in it.

    Args:
        path: ``.jsonl``, ``.json`` (a list, or a mapping with one in it), ``.tsv``, ``.csv``, or
            ``.txt``, of which the parts between empty lines are items; all may be packed (``.gz``).

    Raises:
        MissingDataError: it is not there.
        ConfigError: it is malformed, or of another kind.
    """
    from everlong.evaluation.data import Data

    name = named_file(path, "decontamination's files").name.removesuffix(".gz")
    suffix = Path(name).suffix
    if suffix not in _READ:
        raise ConfigError(f"{path}: the kinds of files are {', '.join(_READ)}, and these with .gz")
    data = Data(path.parent)
    rows: Iterable[Any]
    if suffix == ".txt":
        parts = data.text(name).split("\n\n")
        # Each line in a list of its own: all of them together are the part, which is there.
        rows = [[part, *([line] for line in part.split("\n"))] for part in parts]
    elif suffix == ".json":
        rows = data.document(name, _rows)
    else:
        rows = data.rows(name, lambda row: row, header=False)
    raw = []
    for number, row in enumerate(rows, start=1):
        found = [[((path.name, place), text)] for place, text in _strings(row, "")]
        raw.append(_Raw(f"{path.name} {number}", found))
    return _without_templates(raw)


def _tasks() -> dict[str, Any]:
    # Tasks bring the model's code with them, which a worker does not need.
    from everlong.evaluation.tasks.suites import SUITES

    return {task.name: task for tasks in SUITES.values() for task in tasks}


def _raw(task: str, example: Any) -> _Raw:
    from everlong.evaluation.likelihood import Choice

    def slot(place: str) -> Slot:
        return example.group, place

    name = f"{task} {example.id}"
    if isinstance(example, Choice):
        contexts = list(dict.fromkeys(context for context, _ in example.options))
        if len(example.options) > _MOST_OPTIONS:
            return _Raw(name, [[(slot("context"), context)] for context in contexts], True)
        texts = [[(slot("context"), c), (slot("option"), t)] for c, t in example.options]
        return _Raw(name, texts, True)
    found = [
        [(slot(place), text)]
        for field in dataclasses.fields(example)
        if field.name not in ("id", "group")
        for place, text in _strings(getattr(example, field.name), field.name)
    ]
    return _Raw(name, found)


def _strings(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """All texts in nested data with the names of their places; of a list of texts, also all of them
    together."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield from _strings(item, f"{place}.{name}")
    elif isinstance(value, Sequence):
        for item in value:
            yield from _strings(item, place)
        if len(value) > 1 and all(isinstance(item, str) for item in value):
            yield f"{place} together", " ".join(value)


def _rows(value: Any) -> Sequence[Any]:
    """The list in a JSON document."""
    if isinstance(value, list):
        return value
    lists = [one for one in value.values() if isinstance(one, list)]
    return max(lists, key=len) if lists else [value]


def _without_templates(raw: Sequence[_Raw]) -> list[Item]:
    known: dict[str, Hashes] = {}
    by_slot: dict[Slot, dict[str, Hashes]] = {}
    for one in raw:
        for slot, part in itertools.chain.from_iterable(one.texts):
            if (words := known.get(part)) is None:
                words = known[part] = words_of(part).hashes
            by_slot.setdefault(slot, {})[part] = words
    frames = {slot: _frame(list(several.values())) for slot, several in by_slot.items()}
    return [
        Item(
            one.name,
            tuple(
                _joined([_inside(known[part], frames[slot]) for slot, part in parts])
                for parts in one.texts
            ),
            one.complete,
        )
        for one in raw
    ]


def _frame(several: Sequence[Hashes]) -> tuple[int, int]:
    """How many words all of them begin with, and end with."""
    if len(several) < _FEWEST:
        return 0, 0
    shortest = min(map(len, several))
    first = several[0]
    before = 0
    while before < shortest and all(one[before] == first[before] for one in several):
        before += 1
    behind = 0
    while behind < shortest - before and all(
        one[-1 - behind] == first[-1 - behind] for one in several
    ):
        behind += 1
    return before, behind


def _inside(words: Hashes, frame: tuple[int, int]) -> Hashes:
    return words[frame[0] : len(words) - frame[1]]


def _joined(parts: Sequence[Hashes]) -> Hashes:
    return parts[0] if len(parts) == 1 else np.concatenate(parts)
