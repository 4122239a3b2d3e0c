from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Document
from everlong.curation.quality.fineweb import FineWebQuality
from everlong.curation.quality.words import split_words
from everlong.errors import ConfigError

OFF: dict[str, Any] = {
    "min_punctuated_lines": None,
    "max_short_lines": None,
    "max_duplicate_line_letters": None,
    "max_line_feeds_a_word": None,
}


def rule(step: FineWebQuality, text: str, language: str | None = None) -> str | None:
    dropped = step(Document("1", text, "test", language))
    return dropped.rule if dropped else None


@pytest.mark.parametrize(
    ("fields", "inside", "outside", "name"),
    [
        ({"min_punctuated_lines": 0.5}, "a.\n\nb", "a.\nb\nc! ", "few_line_ends"),
        ({"min_punctuated_lines": 1.0}, "a?\nb。\nc।", "a?\nb:", "few_line_ends"),
        ({"max_short_lines": 0.5}, f"a\n \n{'b' * 31}", f"{'a' * 30}\nb", "short_lines"),
        ({"max_short_lines": 0.5, "short_line": 1}, "a\nbb", "a\nb\ncc", "short_lines"),
        (
            {"max_duplicate_line_letters": 0.25},
            "ab\nab\nabcd",
            "ab\nab\n\nabc",
            "duplicate_lines",
        ),
        ({"max_line_feeds_a_word": 0.5}, "a\nb c,", "a\n\nb c", "line_feeds"),
    ],
)
def test_each_rule_by_itself(fields: dict[str, Any], inside: str, outside: str, name: str) -> None:
    assert rule(FineWebQuality(**OFF | fields), inside) is None
    assert rule(FineWebQuality(**OFF | fields), outside) == name
    assert rule(FineWebQuality(**OFF), outside) is None


def test_the_defaults() -> None:
    prose = "\n".join(f"In the year {year} it rained more than before." for year in range(90))
    assert rule(FineWebQuality(), prose) is None
    assert rule(FineWebQuality(), prose.replace(".", "")) == "few_line_ends"
    assert rule(FineWebQuality(), prose + "\nIn the year 5 it rained more than before." * 3) == (
        "duplicate_lines"
    )
    assert rule(FineWebQuality(), prose.replace(" than before", "")) == "short_lines"
    assert rule(FineWebQuality(), prose.replace("\n", "\n" * 4)) == "line_feeds"


def test_there_must_be_text() -> None:
    for text in ("", "\n", " \n\t\u2003"):
        assert rule(FineWebQuality(**OFF), text) == "empty"


def test_scripts_without_spaces() -> None:
    lines = [f"第{n}条：人人有权享有生命、自由和人身安全。" for n in "一二三四五六七八九"]
    assert rule(FineWebQuality(), "\n".join(lines)) is None
    assert rule(FineWebQuality(), "\n".join(f"人权{line[1]}。" for line in lines)) == "short_lines"
    # Thai ends no sentence with a sign.
    thai = "ทุกคนมีสิทธิในการดำรงชีวิต เสรีภาพ และความมั่นคงแห่งบุคคล"
    assert rule(FineWebQuality(), "\n".join(f"{n} {thai}" for n in range(9))) is None


@given(st.text(st.sampled_from("ab. ,\n"), max_size=60), st.floats(0, 1))
def test_it_counts_plainly(text: str, most: float) -> None:
    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        return
    again = [line for i, line in enumerate(lines) if line in lines[:i]]
    for fields, dropped in (
        (
            {"min_punctuated_lines": most},
            sum(line.endswith(".") for line in lines) / len(lines) < most,
        ),
        (
            {"max_short_lines": most, "short_line": 3},
            sum(len(line) <= 3 for line in lines) / len(lines) > most,
        ),
        (
            {"max_duplicate_line_letters": most},
            sum(map(len, again)) / len(text.replace("\n", "")) > most,
        ),
        ({"max_line_feeds_a_word": most}, text.count("\n") / len(split_words(text)) > most),
    ):
        assert (rule(FineWebQuality(**OFF | fields), text) is not None) == dropped


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_short_lines": -0.1}, "max_short_lines is a share from 0 to 1, or null, not -0.1"),
        ({"short_line": -1}, "short_line is 0 or more, not -1"),
        ({"max_line_feeds_a_word": -1}, "max_line_feeds_a_word is 0 or more, or null, not -1"),
    ],
)
def test_values_that_cannot_be_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        FineWebQuality(**fields)


def test_it_is_read_and_pickled() -> None:
    step = parse_config(FineWebQuality, "max_short_lines: null\nshort_line: 20")
    assert step == FineWebQuality(max_short_lines=None, short_line=20)
    assert parse_config(FineWebQuality, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step
