"""How many near duplicates are found, and how much else is taken for one.

All of it goes through a run with the step as it is by default, and what comes out is compared with
exact similarities (``curation_similarity.py``).

Recall is measured on pairs that are as alike as the step's threshold says: passages of books, and
the same with words replaced, inserted and deleted at random places, until they are. They are the
hardest that the step promises to find. Real text tells it, too.

A false merge is a document that is dropped although no document that stays is as alike to it as
0.7, where the step asks for 0.8: an estimate may be off, and a document between is nearly the same
to most people; its share is told beside it. It is measured on pairs below 0.7, a quarter of them
just below, and on real text with near duplicates of its own.
"""

from __future__ import annotations

import itertools
import json
import math
import random
import tempfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.curation_similarity import (
    WIDTH,
    all_alike,
    jaccard,
    numbered,
    shingles_of,
    words_of,
)
from benchmarks.report import Measured
from everlong.curation.card import dropped_of
from everlong.curation.duplicates.near import NearDuplicates
from everlong.curation.pipeline import Pipeline
from everlong.curation.recipe import Curation
from everlong.curation.tasks import Source
from everlong.curation.workers import Done, Job
from everlong.errors import MissingDataError
from everlong.evaluation.data import Data

RECALL, FALSE = "near_duplicate_recall", "false_merges"
_STEP = NearDuplicates(words=WIDTH)
_MARGIN = 0.1
"""A merge is false if similarity is below the threshold by more than that."""
_FALSE_BELOW = round(_STEP.threshold - _MARGIN, 6)
_LENGTHS = (100, 300, 1000, 3000)
"""Words of a passage. Up to some 500 the step compares exactly, longer ones it estimates."""
_LEVELS = (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
"""Pairs are as alike as that, or a little more."""
_UNLIKE = (0.5, 0.6, 0.65, _FALSE_BELOW)
"""Pairs are a little less alike than that, and must not be merged."""
_WINDOWS = (1_000, 24_000)
"""Letters of windows over books."""
_VOCABULARY = 20_000
"""Frequent words, of which those are drawn that are put in."""
_TRIES = 60
"""To make a pair; short passages have few similarities that they can have."""


@dataclass(frozen=True)
class Pairs:
    """What became of pairs of one similarity and length."""

    similarity: float
    below: bool
    """Whether they are just less alike than that; if not, just as alike or more."""
    words: int
    pairs: int
    merged: int
    false: int
    """Of those, no document that stays is as alike as 0.7."""

    @property
    def share(self) -> float:
        """That is merged, in percent."""
        return 100 * self.merged / max(1, self.pairs)


@dataclass
class Kind:
    """What became of one kind of real text."""

    documents: int = 0
    dropped: int = 0
    below: int = 0
    """Dropped, and less alike than the threshold to all that stays."""
    false: int = 0
    """And less alike than 0.7."""
    missed: int = 0
    """Stay, and are as alike as the threshold to an earlier one that stays."""


def measure(
    data: Path, pairs: int, seed: int, say: Callable[[str], None]
) -> tuple[dict[str, Measured], dict[str, Any]]:
    """Measure both claims.

    Args:
        data: folder of the public data.
        pairs: of each length at the threshold, as far as there are passages; half as many at each
            similarity below 0.7, a quarter at each other one.
        seed: of what is drawn.
        say: told how far it is.
    """
    try:
        books, real = _books(Data(data)), [*_real(Data(data), random.Random(seed))]
    except MissingDataError as error:
        return {claim: Measured(None, str(error)) for claim in (RECALL, FALSE)}, {}
    vocabulary = [w for w, _ in Counter(itertools.chain(*books)).most_common(_VOCABULARY)]
    generated: list[Pairs] = []
    levels = [(level, True, pairs // 2) for level in _UNLIKE]
    for level in _LEVELS:
        levels.append((level, False, pairs if level == _STEP.threshold else pairs // 4))
    for level, below, count in levels:
        found = [*_generated(books, vocabulary, level, below, count, seed)]
        told = ", ".join(f"{one.share:.2f} % of {one.pairs}" for one in found)
        say(f"similarity {'below ' * below}{level}, {_LENGTHS} words: {told} are merged")
        generated += found
    kinds = _judged(real)
    for name, kind in kinds.items():
        say(f"{name}: {vars(kind)}")
    samples = {
        "pairs": [vars(one) for one in generated],
        "real": {name: vars(kind) for name, kind in kinds.items()},
    }
    return {
        RECALL: _recall(generated, kinds),
        FALSE: _false_merges(generated, kinds),
    }, samples


def _recall(generated: Sequence[Pairs], kinds: dict[str, Kind]) -> Measured:
    at = [one for one in generated if one.similarity == _STEP.threshold and not one.below]
    lowest = min(at, key=lambda one: one.share)
    told = ", ".join(f"{one.words:,} words {one.share:.2f} % of {one.pairs:,}" for one in at)
    missed = sum(kind.missed for kind in kinds.values())
    alike = missed + sum(kind.dropped - kind.below for kind in kinds.values())
    return Measured(
        lowest.share,
        f"lowest of passages of books beside edited ones, exact similarity {_STEP.threshold} to "
        f"{_STEP.threshold + _tolerance(_LENGTHS[-1]):.3f} ({_LENGTHS[0]} words: "
        f"{_STEP.threshold + _tolerance(_LENGTHS[0]):.3f}): {told}; of real text, exact copies "
        f"among them, {100 * (alike - missed) / max(1, alike):.2f} % of {alike:,}",
    )


def _false_merges(generated: Sequence[Pairs], kinds: dict[str, Kind]) -> Measured:
    unlike = [one for one in generated if one.below]
    between = [one for one in generated if not one.below and one.similarity < _STEP.threshold]
    count = sum(one.pairs for one in unlike)
    made = 100 * sum(one.false for one in unlike) / count
    total = Kind()
    for kind in kinds.values():
        total.documents += kind.documents
        total.dropped += kind.dropped
        total.below += kind.below
        total.false += kind.false
    found = 100 * total.false / total.documents
    by_similarity = "; ".join(
        f"{level} " + ", ".join(f"{one.share:.1f}" for one in between if one.similarity == level)
        for level in sorted({one.similarity for one in between})
    )
    return Measured(
        max(made, found),
        f"dropped though nothing that stays is as alike as {_FALSE_BELOW}: {made:.3f} % of "
        f"{count:,} generated pairs below {', '.join(map(str, _UNLIKE))} and {found:.3f} % of "
        f"{total.documents:,} documents of real text ({total.dropped:,} dropped); below the "
        f"threshold {_STEP.threshold}: {100 * total.below / total.documents:.3f} % of the real "
        f"ones, and of generated pairs, in percent at {', '.join(map(str, _LENGTHS))} words, at "
        f"{by_similarity}",
    )


def _generated(
    books: Sequence[Sequence[str]],
    vocabulary: Sequence[str],
    level: float,
    below: bool,
    count: int,
    seed: int,
) -> Iterator[Pairs]:
    """Make pairs of all lengths, have all together go through a run, and look at what is merged."""
    texts: list[str] = []
    lengths: list[int] = []
    for length in _LENGTHS:
        chance = random.Random(f"{seed} {level} {below} {length}")
        wanted = level - _tolerance(length) - 1e-9 if below else level
        made = 0
        for words in _passages(books, length, chance):
            if made == count:
                break
            if (other := _edited(words, wanted, vocabulary, chance)) is not None:
                texts += [" ".join(words), " ".join(other)]
                made += 1
        lengths += [length] * made
    dropped = _dropped(texts)
    sets = [shingles_of(text.split()) for text in texts]
    stay = [own for number, own in enumerate(sets) if number not in dropped]
    false = {
        number // 2
        for number in dropped
        if below and all(jaccard(sets[number], own) < _FALSE_BELOW for own in stay)
    }
    merged = {number // 2 for number in dropped if number % 2}
    for length in _LENGTHS:
        mine = {number for number, of in enumerate(lengths) if of == length}
        yield Pairs(level, below, length, len(mine), len(merged & mine), len(false & mine))


def _edited(
    words: Sequence[str], wanted: float, vocabulary: Sequence[str], chance: random.Random
) -> list[str] | None:
    """Words after as many edits at random places as it takes; None: none were found."""
    own = shingles_of(words)
    # Five words in a row are as they were with that likelihood, if so many are not.
    share = 1 - (2 * wanted / (1 + wanted)) ** (1 / WIDTH)
    most = min(20 + int(2 * share * len(words)), len(words))
    for _ in range(_TRIES):
        edits = [
            (place, chance.randrange(3), chance.choice(vocabulary))
            for place in chance.sample(range(len(words)), most)
        ]
        low, high = 0, most  # more edits, less alike, but for chance
        best, alike = [*words], 1.0
        while high - low > 1:
            middle = (low + high) // 2
            changed = _after(words, edits[:middle])
            if (found := jaccard(own, shingles_of(changed))) >= wanted:
                low, best, alike = middle, changed, found
            else:
                high = middle
        if alike - wanted <= _tolerance(len(words)):
            return best
    return None


def _tolerance(words: int) -> float:
    """How much more alike than wanted a pair may be: a shingle or two of a short passage."""
    return max(0.005, 1.5 / words)


def _after(words: Sequence[str], edits: Sequence[tuple[int, int, str]]) -> list[str]:
    """Words after some edits: each a place of its own, what is done there, and a word."""
    changed: list[str] = []
    at = 0
    for place, what, word in sorted(edits):
        changed += words[at:place]
        changed += ([word], [words[place], word], [])[what]  # replaced, inserted, deleted
        at = place + 1
    return [*changed, *words[at:]]


def _dropped(texts: Sequence[str]) -> set[int]:
    """Numbers of the texts that a run drops which has this step alone."""
    with tempfile.TemporaryDirectory() as scratch:
        path, run = Path(scratch, "texts.jsonl"), Path(scratch, "run")
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps({"text": text}) + "\n" for text in texts)
        recipe = Curation(run, (Source("texts", (path,)),), (_STEP,))
        counts = Pipeline(recipe, _Here()).run()
        assert counts[0].documents == len(texts), f"{counts[0].refused[:3]} were not looked at"
        return {int(one["id"].rpartition("#")[2]) - 1 for one in dropped_of(run)}


class _Here:
    """Does tasks one after the other, in this process: no time is measured."""

    def map(self, job: Job, tasks: Sequence[int]) -> Iterator[Done]:
        for task in tasks:
            yield Done(task, job(task, {}, lambda piece, document: None))


def _judged(real: Sequence[tuple[str, str]]) -> dict[str, Kind]:
    """Have all real texts go through a run together, and look at what it drops and what stays."""
    texts = [text for _, text in real]
    dropped = _dropped(texts)
    shingles, single = numbered(texts)
    # Texts of the same shingles are one for the search; which of them stay, is not.
    first: dict[bytes, int] = {}
    same = [first.setdefault(own.tobytes(), number) for number, own in enumerate(shingles)]
    stays: dict[int, int] = {}
    for number, group in enumerate(same):
        if number not in dropped:
            stays.setdefault(group, number)
    near: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for one, other, alike in all_alike(shingles, single, [*first.values()], _FALSE_BELOW):
        near[one].append((other, alike))
        near[other].append((one, alike))
    kinds: dict[str, Kind] = defaultdict(Kind)
    for number, (name, _) in enumerate(real):
        kind, group = kinds[name], same[number]
        kind.documents += 1
        others = [(group, 1.0), *near[group]] if len(shingles[number]) else []
        there = [(stays[other], alike) for other, alike in others if other in stays]
        if number in dropped:
            best = max((alike for _, alike in there), default=0.0)
            kind.dropped += 1
            kind.below += best < _STEP.threshold
            kind.false += best < _FALSE_BELOW
        else:
            kind.missed += any(
                alike >= _STEP.threshold and other < number for other, alike in there
            )
    return dict(kinds)


def _books(data: Data) -> list[list[str]]:
    """The words of each book."""
    return [words_of(data.text(name)) for name in data.names("books/*.txt")]


def _passages(
    books: Sequence[Sequence[str]], length: int, chance: random.Random
) -> Iterator[Sequence[str]]:
    """Passages that do not overlap, in an order of chance."""
    places = [
        (number, start)
        for number, book in enumerate(books)
        for start in range(0, len(book) - length, length)
    ]
    chance.shuffle(places)
    for number, start in places:
        yield books[number][start : start + length]


def _real(data: Data, chance: random.Random) -> Iterator[tuple[str, str]]:
    """Texts of many kinds, each with its kind; none is empty."""
    for name in data.names("books/*.txt"):
        text, at = data.text(name), 0
        while at < len(text):  # windows, and others that begin a random share of them later
            size = int(math.exp(chance.uniform(*map(math.log, _WINDOWS))))
            for start in (at, at + int(chance.uniform(0, 0.35) * size)):
                if window := text[start : start + size].strip():
                    yield "books, windows that overlap", window
            at += 2 * size
        yield from (("books, paragraphs", one) for one in text.split("\n") if len(one) > 100)
    for part in ("valid", "test"):
        lines = data.rows(f"wikitext2/{part}.txt", str.strip)
        yield from (("encyclopedia, paragraphs", line) for line in lines if len(line) > 100)
    for kind, name, parse in _SETS:
        yield from ((kind, one) for row in data.rows(name, parse) for one in row if one.strip())


def _talk(row: Any) -> tuple[str]:
    return ("\n".join(f"{turn['speaker']}: {turn['utterance']}" for turn in row["turns"]),)


_SETS: tuple[tuple[str, str, Callable[[Any], tuple[str, ...]]], ...] = (
    ("manual pages", "tldr/tldr.jsonl", lambda row: (row["text"],)),
    ("medical answers", "medquad/medquad.jsonl", lambda row: (row["answer"],)),
    ("service dialogues", "sgd_dialogues/sgd_dev.jsonl", _talk),
    (
        "dialogues with two ends",
        "hh_harmless/test.jsonl",
        lambda row: (row["chosen"], row["rejected"]),
    ),
    (
        "support answers",
        "bitext_support/bitext_customer_support.csv",
        lambda row: (row["response"],),
    ),
    ("prompts of templates", "instructions/p3_sample.jsonl", lambda row: (row["prompt"],)),
    ("news", "ag_news/ag_news_7600.tsv", lambda row: (row["text"],)),
    ("law in many languages", "udhr/udhr.jsonl", lambda row: ("\n".join(row["paragraphs"]),)),
    ("Java programs", "mbpp/mbxp_java.jsonl", lambda row: (row["prompt"],)),
    ("C# programs", "mbpp/mbxp_csharp.jsonl", lambda row: (row["prompt"],)),
)
"""Kind, file, and the texts of a row."""
