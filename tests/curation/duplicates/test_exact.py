"""Exact duplicates: the first of the same texts stays, in this run and before it."""

from __future__ import annotations

import pickle
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document, Dropped
from everlong.curation.duplicates.exact import ExactDuplicates
from everlong.curation.step import CorpusStep, RememberingStep
from everlong.errors import ConfigError
from tests.curation.duplicate_corpus import Corpus

HOSTILE = ["", " ", "\n", "!", "...", "word", "x" * 10_000_000, "\ud800", "\x00", "é", "e\u0301"]


def plain(step: ExactDuplicates, text: str) -> str:
    """What the fields say, sign by sign."""
    left = unicodedata.normalize("NFC", text)
    if not step.punctuation:
        left = "".join(sign for sign in left if unicodedata.category(sign)[0] != "P")
    if not step.case:
        left = left.casefold()
    if not step.white_space:
        left = " ".join(left.split())
    return left or text


@given(
    st.lists(st.text("aA .!é́\n", max_size=4), max_size=30),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.sets(st.integers(0, 29)),
)
def test_what_is_dropped_is_what_a_dictionary_knows(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[str],
    case: bool,
    white_space: bool,
    punctuation: bool,
    dropped: set[int],
) -> None:
    step = ExactDuplicates(case=case, white_space=white_space, punctuation=punctuation)
    dropped = {number for number in dropped if number < len(texts)}
    known: dict[str, int] = {}
    expected: list[int | None] = []
    for number, text in enumerate(texts):
        first = number if number in dropped else known.setdefault(plain(step, text), number)
        expected.append(None if first == number else first)
    corpus = Corpus(step, texts, tmp_path_factory.mktemp("corpus") / "corpus")
    assert corpus.others([*dropped]) == expected


def test_hostile_texts_are_the_same_as_themselves(tmp_path: Path) -> None:
    corpus = Corpus(ExactDuplicates(case=True, white_space=True), HOSTILE * 2, tmp_path / "corpus")
    same = corpus.others()
    assert same[:-1] == [None] * 10 + [9] + [*range(10)]  # the last one is composed
    assert same[-1] == 9


def test_texts_of_which_nothing_is_left_are_compared_as_they_are(tmp_path: Path) -> None:
    corpus = Corpus(ExactDuplicates(punctuation=False), ["!?", "...", "!?", ""], tmp_path / "c")
    assert corpus.others() == [None, None, 0, None]


def test_verdicts_name_the_other_one(tmp_path: Path) -> None:
    step = ExactDuplicates(store=tmp_path / "store")
    Corpus(step, ["old"], tmp_path / "old").remember("old")
    verdicts = Corpus(step, ["new", "Old", "NEW "], tmp_path / "new").apply()
    assert verdicts == [
        None,
        Dropped("known_text", "an earlier run has kept the same text"),
        Dropped("same_text", "the same text as 0"),
    ]


def test_runs_know_what_was_kept_before_them(tmp_path: Path) -> None:
    step = ExactDuplicates(store=tmp_path / "store")
    first = Corpus(step, ["a", "b", "a"], tmp_path / "first")
    first.remember("first")
    second = Corpus(step, ["c", "b", "c", "b"], tmp_path / "second")
    expected = [None, 1, 0, 3]
    assert second.others(run="second") == expected
    second.remember("second")
    assert second.others(run="second") == expected, "it does not find itself"
    assert first.others(run="first") == [None, None, 0]
    third = Corpus(step, ["a", "b", "c", "d"], tmp_path / "third")
    assert third.others(run="third") == [0, 1, 2, None]
    Corpus(step, ["d"], tmp_path / "again").remember("second")
    assert third.others(run="third") == [0, 1, None, 3]


def test_a_large_store_is_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("everlong.curation.duplicates.exact._STORED_AT_ONCE", 3)
    step = ExactDuplicates(store=tmp_path / "store")
    Corpus(step, [str(n) for n in range(0, 100, 2)], tmp_path / "old").remember("old")
    found = Corpus(step, [str(n) for n in range(100)], tmp_path / "new").others()
    assert found == [None if n % 2 else n for n in range(100)]


def test_a_store_of_another_normalisation_is_refused(tmp_path: Path) -> None:
    Corpus(ExactDuplicates(store=tmp_path / "store"), ["a"], tmp_path / "old").remember("old")
    corpus = Corpus(ExactDuplicates(store=tmp_path / "store", case=True), ["a"], tmp_path / "new")
    with pytest.raises(ConfigError, match="made with case False, not True"):
        corpus.others()


def test_without_a_store_nothing_is_remembered(tmp_path: Path) -> None:
    Corpus(ExactDuplicates(), ["a"], tmp_path / "old").remember("old")
    assert Corpus(ExactDuplicates(), ["a"], tmp_path / "new").others() == [None]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new", "old"]


def test_digests_never_change() -> None:
    """Stores of earlier runs have them."""
    found = ExactDuplicates().sketch(Document("", "To be,\n or NOT", ""))
    assert [hex(value) for value in found.tolist()] == [
        "0x4c7dce12bd0901d7",
        "0x88b1c09f9d6b67b",
    ]


def test_the_step_is_one_of_a_recipe() -> None:
    step = ExactDuplicates(punctuation=False, store=Path("store"))
    assert parse_config(ExactDuplicates, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step
    assert isinstance(step, CorpusStep)
    assert isinstance(step, RememberingStep)
