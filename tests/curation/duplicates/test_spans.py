"""Repeated spans: the first of them stays, and so does every sentence somewhere."""

from __future__ import annotations

import pickle
import re
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Changed, Dropped
from everlong.curation.duplicates import spans
from everlong.curation.duplicates.spans import RepeatedSpans
from everlong.curation.step import CorpusStep
from everlong.errors import ConfigError
from tests.curation.duplicate_corpus import Corpus

SENTENCE = st.sampled_from(["One a.", "Two b!", "Three c?", "Four d...", "Five «e.»", "One, A!"])
LINE = st.sampled_from(["Menu", "menu!", "Text a.", "text b. And more.", "***", "", "1 2 3"])


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.lower())


@settings(deadline=None)
@given(
    st.lists(st.lists(SENTENCE, max_size=8), max_size=8),
    st.integers(1, 4),
    st.sets(st.integers(0, 7)),
)
def test_sentences_left_are_those_of_a_loop(
    tmp_path_factory: pytest.TempPathFactory,
    texts: list[list[str]],
    span: int,
    dropped: set[int],
) -> None:
    dropped = {number for number in dropped if number < len(texts)}
    step = RepeatedSpans(span=span, least_words=0)
    corpus = Corpus(step, [" ".join(text) for text in texts], tmp_path_factory.mktemp("c") / "c")
    assert corpus.apply([*dropped]) == [None] * len(texts)

    known: set[tuple[str, ...]] = set()
    left: set[str] = set()
    for number, text in enumerate(texts):
        document, plain = corpus.documents[number], [" ".join(words(one)) for one in text]
        cut: set[int] = set()
        if number not in dropped:
            for first in range(len(plain) - span + 1):
                window = tuple(plain[first : first + span])
                if window in known:
                    cut |= {*range(first, first + span)}
                known.add(window)
        expected = [one for n, one in enumerate(plain) if n not in cut]
        assert words(document.text) == words(" ".join(expected))
        pieces = sum(n in cut and n - 1 not in cut for n in range(len(plain)))
        changes = [Changed("repeated_spans", "repeated", pieces)] if cut else []
        assert document.history == changes
        left |= {*expected}
    everything = {" ".join(words(one)) for text in texts for one in text}
    assert left == everything, "a sentence is nowhere any more"


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.lists(LINE, max_size=6), st.sampled_from("AB")), max_size=12),
    st.integers(2, 4),
)
def test_common_lines_are_cut_in_all_documents_of_their_source(
    tmp_path_factory: pytest.TempPathFactory, texts: list[tuple[list[str], str]], common: int
) -> None:
    step = RepeatedSpans(span=None, common_line=common, least_words=0)
    folder = tmp_path_factory.mktemp("c") / "c"
    corpus = Corpus(step, ["\n".join(t) for t, _ in texts], folder, [s for _, s in texts])
    assert corpus.apply() == [None] * len(texts)
    plain = [[" ".join(words(line)) for line in text] for text, _ in texts]
    for number, (_, source) in enumerate(texts):
        expected = [
            line
            for line in plain[number]
            if line
            and common
            > sum(
                line in other for other, (_, of) in zip(plain, texts, strict=True) if of == source
            )
        ]
        assert words(corpus.documents[number].text) == words(" ".join(expected))


def test_paragraphs_stay_apart(tmp_path: Path) -> None:
    known = "First one. Second one. Third one."
    texts = [known, f"New text. {known}\n\nAnother\nparagraph.", f"{known} So.\n\n{known}\n\nYes."]
    corpus = Corpus(RepeatedSpans(least_words=1), texts, tmp_path / "corpus")
    corpus.apply()
    assert [document.text for document in corpus.documents] == [
        known,
        "New text.\n\nAnother\nparagraph.",
        "So.\n\nYes.",
    ]
    assert [document.history for document in corpus.documents] == [
        [],
        [Changed("repeated_spans", "repeated", 1)],
        [Changed("repeated_spans", "repeated", 2)],
    ]


def test_what_has_no_word_goes_with_the_unit_before_it(tmp_path: Path) -> None:
    known = "One here. Two here. Three here."
    texts = [known, f"***\n{known} ***\n---\nAnd more.\n***", f"{known}\n\n***\n"]
    corpus = Corpus(RepeatedSpans(least_words=0), texts, tmp_path / "corpus")
    corpus.apply()
    assert [document.text for document in corpus.documents] == [known, "And more.\n***", ""]


def test_chinese_and_japanese_have_sentences(tmp_path: Path) -> None:
    known = "他来了。她说：「你好。」我们走吧！"
    corpus = Corpus(RepeatedSpans(least_words=1), [known, f"今天。{known}再见。"], tmp_path / "c")
    corpus.apply()
    assert corpus.documents[1].text == "今天。再见。"


def test_spans_of_lines(tmp_path: Path) -> None:
    texts = ["a. b.\nc\nd", "x\n\na. b.\n\nc\ny", "d\nc"]
    corpus = Corpus(RepeatedSpans(unit="line", span=2, least_words=1), texts, tmp_path / "corpus")
    corpus.apply()
    assert [document.text for document in corpus.documents] == [texts[0], "x\n\ny", "d\nc"]


def test_both_rules_at_once(tmp_path: Path) -> None:
    known = "One is here. Two is here. Three is here."
    texts = [f"Menu\n{known}", f"Menu\nText. {known} End.", "MENU!\nOther text."]
    corpus = Corpus(RepeatedSpans(common_line=3, least_words=1), texts, tmp_path / "corpus")
    corpus.apply()
    assert [document.text for document in corpus.documents] == [known, "Text. End.", "Other text."]


def test_documents_with_little_left_are_dropped(tmp_path: Path) -> None:
    known = "One a b. Two a b. Three a b."
    texts = [known, f"{known} What is new here.", f"{known} New too.", "short"]
    corpus = Corpus(RepeatedSpans(least_words=4), texts, tmp_path / "corpus")
    assert corpus.apply() == [
        None,
        None,
        Dropped("few_words_left", "2 words are not repeated, at least 4"),
        None,
    ]


def test_files_and_chunks_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [" ".join(f"Number {n * m % 37}." for m in range(n % 9)) for n in range(200)]
    step = RepeatedSpans(span=2, common_line=20, least_words=0)
    whole = Corpus(step, texts, tmp_path / "one")
    whole.apply()
    monkeypatch.setattr(spans, "_IN_A_FILE", 20)
    monkeypatch.setattr(spans, "_CHUNK", 7)
    parts = Corpus(step, texts, tmp_path / "two")
    parts.apply()
    assert parts.documents == whole.documents
    assert any(document.history for document in whole.documents)
    assert not [*(tmp_path / "two" / "work").iterdir()]
    kept = np.ones(len(texts), dtype=np.bool_)
    pieces = [len(some) for some, _ in spans._by_hash(parts.sketches, kept, tmp_path)]
    assert sum(pieces) == parts.sketches.starts[-1]
    assert max(pieces) < sum(pieces) / 5


@pytest.mark.parametrize(
    "text",
    ["", " ", ".", "\n", "word", "." * 10**6, ".'" * 10**6, ". " * 10**6, "\n" * 10**6,
     "。" * 10**6, "." + ")" * 10**6, "." + " " * 10**6, "x" * 10**7, "a. " * 10**5, "\ud800. x"],
    ids=lambda text: f"{text[:3]!r} {len(text)}",
)  # fmt: skip
def test_hostile_texts(text: str, tmp_path: Path) -> None:
    start = time.monotonic()
    step = RepeatedSpans(span=2, common_line=2, least_words=0)
    corpus = Corpus(step, [text, text], tmp_path / "corpus")
    assert corpus.apply() == [None, None]
    assert corpus.documents[1].text == ("" if words(text) else text)
    assert time.monotonic() - start < 10


def test_an_empty_corpus(tmp_path: Path) -> None:
    assert Corpus(RepeatedSpans(), [], tmp_path / "corpus").apply() == []


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"span": None}, "both None: nothing would be cut"),
        ({"span": 0}, "span is 1 or more, or None, not 0"),
        ({"common_line": 1}, "common_line is 2 or more, or None, not 1"),
        ({"least_words": -1}, "least_words is 0 or more, not -1"),
    ],
)
def test_settings_that_cannot_be(fields: dict[str, int | None], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        RepeatedSpans(**fields)  # type: ignore[arg-type]


def test_the_step_is_one_of_a_recipe() -> None:
    step = RepeatedSpans(unit="line", span=None, common_line=20)
    assert parse_config(RepeatedSpans, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step
    assert isinstance(step, CorpusStep)
