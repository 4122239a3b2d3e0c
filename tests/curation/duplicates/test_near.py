"""Near duplicates: what exact similarities would drop, and nothing else, as far as is promised."""

from __future__ import annotations

import functools
import gzip
import json
import pickle
import random
import re
import sys
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document, Dropped
from everlong.curation.duplicates import search
from everlong.curation.duplicates.near import NearDuplicates
from everlong.curation.step import CorpusStep, RememberingStep
from everlong.errors import ConfigError
from tests.curation.duplicate_corpus import Corpus
from tests.evaluation.public_data import public_data

FINDS_ALL = {"bands": 60, "rows": 1}
"""What is alike by a half has no band in common once in 2 ** 60 times."""
TEXT = st.lists(st.sampled_from("abcd"), max_size=12).map(" ".join)


@functools.cache
def shingles(text: str, width: int) -> set[tuple[str, ...]]:
    words = re.findall(r"[^\W_]+", text.lower())
    width = min(width, len(words))
    return {tuple(words[n : n + width]) for n in range(len(words) - width + 1)} if words else set()


def alike(one: str, other: str, width: int = 5) -> float:
    sets = shingles(one, width), shingles(other, width)
    return len(sets[0] & sets[1]) / max(1, len(sets[0] | sets[1]))


def stays(step: NearDuplicates, texts: Sequence[str], dropped: set[int]) -> set[int]:
    """What stays by exact similarities, one by one."""
    found: set[int] = set()
    for number, text in enumerate(texts):
        if number not in dropped and not any(
            alike(text, texts[n], step.words) >= step.threshold for n in found
        ):
            found.add(number)
    return found


def changed(words: list[str], share: float, draw: random.Random) -> list[str]:
    """Words of which a share is replaced by others."""
    return [f"other{draw.random()}"[:14].replace(".", "x") if draw.random() < share else word
            for word in words]  # fmt: skip


@settings(deadline=None)
@given(
    st.lists(TEXT, max_size=25),
    st.sampled_from([0.5, 0.6, 0.8, 1.0]),
    st.integers(1, 3),
    st.sets(st.integers(0, 24)),
)
def test_what_stays_is_what_exact_similarities_leave(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    threshold: float,
    words: int,
    dropped: set[int],
) -> None:
    step = NearDuplicates(threshold=threshold, words=words, compared=16, **FINDS_ALL)
    dropped = {number for number in dropped if number < len(texts)}
    corpus = Corpus(step, texts, tmp_path_factory.mktemp("corpus") / "corpus")
    found = corpus.others([*dropped])
    expected = stays(step, texts, dropped)
    assert {n for n, other in enumerate(found) if other is None} - dropped == expected
    for number, other in enumerate(found):
        if other is not None:
            assert other in expected
            assert number not in dropped
            assert alike(texts[number], texts[other], words) >= threshold


def test_the_ends_of_a_chain_are_not_one_text(tmp_path: Path) -> None:
    draw = random.Random(0)
    texts = [[f"word{n}" for n in range(200)]]
    for _ in range(40):
        texts.append([*texts[-1]])
        for place in draw.sample(range(200), 2):
            texts[-1][place] += "x"
    joined = [" ".join(words) for words in texts]
    assert all(alike(one, other) > 0.8 for one, other in pairwise(joined))
    assert alike(joined[0], joined[-1]) < 0.2
    found = Corpus(NearDuplicates(**FINDS_ALL), joined, tmp_path / "corpus").others()
    assert {n for n, other in enumerate(found) if other is None} == stays(
        NearDuplicates(), joined, set()
    )
    assert 5 < found.count(None) < 35


@settings(deadline=None, max_examples=20)
@given(st.permutations(range(18)))
def test_in_any_order_the_first_of_each_family_stays(
    tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    draw = random.Random(1)
    texts = []
    for family in range(6):
        words = [f"family{family}word{n}" for n in range(400)]
        texts += [" ".join(changed(words, share, draw)) for share in (0, 0.004, 0.004)]
    corpus = Corpus(
        NearDuplicates(), [texts[n] for n in order], tmp_path_factory.mktemp("corpus") / "corpus"
    )
    families = [n // 3 for n in order]
    expected = [families.index(family) for family in families]
    assert corpus.others() == [None if first == n else first for n, first in enumerate(expected)]


def test_long_texts_are_found_as_often_as_promised(tmp_path: Path) -> None:
    draw = random.Random(2)
    texts, similar = [], []
    for share in [0.023] * 120 + [0.042] * 120:  # replaced words for 0.8, and for 0.68
        words = [f"{draw.random():.9f}"[2:] for _ in range(1500)]
        texts += [" ".join(words), " ".join(changed(words, share, draw))]
        similar.append(alike(*texts[-2:]))
    found = np.array(Corpus(NearDuplicates(), texts, tmp_path / "corpus").others()[1::2])
    dropped, similarity = found != None, np.array(similar)  # noqa: E711
    enough, less = similarity >= 0.8, similarity < 0.7
    assert min(enough.sum(), less.sum()) > 40
    assert dropped[enough].mean() >= 0.95
    assert not dropped[less].any()
    assert all(other in (None, 2 * n) for n, other in enumerate(found))


def test_real_pages_are_dropped_as_by_exact_similarities(tmp_path: Path) -> None:
    """Help pages of programs, some of which have two names."""
    path = public_data() / "tldr" / "tldr.jsonl.gz"
    pages = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    texts = [p["text"] for p in pages if p["lang"] == "en" and re.match("g(?!it)", p["name"])]
    step = NearDuplicates()
    found = Corpus(step, texts, tmp_path / "corpus").others()
    mine = {n for n, other in enumerate(found) if other is not None}
    expected = {*range(len(texts))} - stays(step, texts, set())
    assert len(expected) > 50
    assert len(mine & expected) >= 0.95 * len(expected)
    for number in mine:
        other = found[number]
        assert other is not None
        assert alike(texts[number], texts[other]) >= 0.8


def test_hostile_texts(tmp_path: Path) -> None:
    texts = [
        "", " ", "...", "word", "Word!", "two words", "two  WORDS", "words two",
        "x" * 10_000_000, "x" * 10_000_000, "x" * 10_000_001, "\ud800", "a " * 200_000,
    ]  # fmt: skip
    found = Corpus(NearDuplicates(), texts, tmp_path / "corpus").others()
    nothing = [None] * 4
    # 152 pieces of 64 Ki signs make two shingles; one sign more changes the second.
    assert found == [*nothing, 3, None, 5, None, None, 8, None, None, None]


def test_copies_give_way_to_what_their_original_gives_way_to(tmp_path: Path) -> None:
    words = [f"word{n}" for n in range(200)]
    nearly = " ".join([*words[:-1], "other"])
    texts = [" ".join(words), nearly, nearly.upper(), "alone", nearly, "Alone!"]
    assert Corpus(NearDuplicates(), texts, tmp_path / "corpus").others() == [
        *(None, 0, 0),
        *(None, 0, 3),
    ]


def test_what_does_not_matter(tmp_path: Path) -> None:
    words = [f"wört{n}" for n in range(50)]
    texts = [
        " ".join(words),
        "  -- ".join(words).upper() + "!",
        " ".join(words).replace("ö", "o\u0308"),
    ]
    assert Corpus(NearDuplicates(), texts, tmp_path / "corpus").others() == [None, 0, 0]


def test_verdicts_tell_how_alike_texts_are(tmp_path: Path) -> None:
    step = NearDuplicates(store=tmp_path / "store")
    words = [f"word{n}" for n in range(104)]
    other = ["new", *words[1:-1], "new"]  # 98 of 102 shingles
    Corpus(step, [" ".join(words)], tmp_path / "old").remember("old")
    verdicts = Corpus(step, ["so long", " ".join(other), "So long!"], tmp_path / "new").apply()
    assert verdicts == [
        None,
        Dropped("known_text_nearly", "similarity 0.96 to what an earlier run has kept"),
        Dropped("same_text_nearly", "similarity 1.00 to 0"),
    ]


def test_runs_know_what_was_kept_before_them(tmp_path: Path) -> None:
    draw = random.Random(3)
    texts = [[f"text{n}word{m}" for m in range(300)] for n in range(5)]
    copies = [changed(words, 0.01, draw) for words in texts]

    def corpus(name: str, chosen: list[list[str]]) -> Corpus:
        return Corpus(step, [" ".join(words) for words in chosen], tmp_path / name)

    step = NearDuplicates(store=tmp_path / "store")
    corpus("first", [texts[0], copies[0], [], texts[1]]).remember("first")
    second = corpus("second", [texts[2], copies[1], copies[2], texts[1], []])
    expected = [None, 1, 0, 3, None]
    assert second.others(run="second") == expected
    second.remember("second")
    assert second.others(run="second") == expected, "it does not find itself"
    third = corpus("third", [copies[n] for n in (4, 3, 2, 1, 0)])
    assert third.others(run="third") == [None, None, 2, 3, 4]
    third.remember("third")
    assert second.others(run="second") == expected, "nor what came later"
    assert corpus("empty", []).others(run="fourth") == []
    assert corpus("single", [copies[1]]).others(run="fourth") == [0]


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit of open files")
def test_a_store_may_have_more_runs_than_files_may_be_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import resource

    monkeypatch.setattr("everlong.curation.step._MOST_OPEN", 5)
    step = NearDuplicates(store=tmp_path / "store")
    texts = [" ".join(f"text{n}word{m}" for m in range(50)) for n in range(40)]
    for number, text in enumerate(texts):
        Corpus(step, [text], tmp_path / f"{number}").remember(f"run {number}")
    again = Corpus(step, [f"{text} end" for text in texts], tmp_path / "again")
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    with (tmp_path / "one").open("w") as file:
        resource.setrlimit(resource.RLIMIT_NOFILE, (file.fileno() + 20, limits[1]))
    try:
        assert again.others() == [*range(40)]
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)


def test_a_store_of_other_sketches_is_refused_but_not_of_another_threshold(
    tmp_path: Path,
) -> None:
    store = tmp_path / "store"
    Corpus(NearDuplicates(store=store), ["a b c"], tmp_path / "old").remember("old")
    corpus = Corpus(NearDuplicates(store=store, threshold=0.9), ["a b c"], tmp_path / "new")
    assert corpus.others() == [0]
    corpus = Corpus(NearDuplicates(store=store, words=4), ["a b c"], tmp_path / "other")
    with pytest.raises(ConfigError, match="made with words 5, not 4"):
        corpus.others()


def test_chunks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = random.Random(4)
    texts = []
    for n in range(40):
        words = [f"text{n % 13}word{m}" for m in range(100)]
        texts.append(" ".join(changed(words, 0.01, draw)) if n % 5 else "")
    whole = Corpus(NearDuplicates(), texts, tmp_path / "one").others()
    assert whole.count(None) < 30
    monkeypatch.setattr(search, "_CHUNK", 3)
    monkeypatch.setattr(search, "_PAIRS", 2)
    monkeypatch.setattr("everlong.curation.duplicates.leaders._BATCH", 7)
    monkeypatch.setattr("everlong.curation.duplicates.near._CHUNK", 5)
    step = NearDuplicates(store=tmp_path / "store")
    corpus = Corpus(step, texts, tmp_path / "two")
    assert corpus.others() == whole
    corpus.remember("first")
    assert corpus.others(run="second") == [n if text else None for n, text in enumerate(texts)]


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"threshold": 0.0}, "threshold is above 0 and at most 1, not 0.0"),
        ({"threshold": 1.1}, "not 1.1"),
        ({"words": 0}, "words is 1 or more, not 0"),
        ({"compared": 0}, "compared is 1 or more"),
        ({"rows": 12}, "20 bands of 12 rows find 75.9%"),
        ({"threshold": 0.5}, "take more bands, or fewer rows"),
    ],
)
def test_settings_that_cannot_be(fields: dict[str, float], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        NearDuplicates(**fields)  # type: ignore[arg-type]


def test_the_step_is_one_of_a_recipe() -> None:
    step = NearDuplicates(threshold=0.9, store=Path("store"))
    assert parse_config(NearDuplicates, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step
    assert isinstance(step, CorpusStep)
    assert isinstance(step, RememberingStep)
    assert step.apply(Document("", "", ""), np.empty(0, np.uint64), None) is None
