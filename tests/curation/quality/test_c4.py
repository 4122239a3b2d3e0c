from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from everlong.config import format_config, parse_config
from everlong.curation.document import Changed, Document
from everlong.curation.quality.c4 import C4Quality, count_sentences
from everlong.errors import ConfigError

OFF: dict[str, Any] = {
    "max_word_length": None,
    "citations": False,
    "line_ends": False,
    "min_words_a_line": None,
    "lorem_ipsum": False,
    "javascript": False,
    "curly_bracket": False,
    "policy": False,
    "min_sentences": None,
}
LINE = "This is a line with words."


def result(
    step: C4Quality, text: str, language: str | None = None
) -> tuple[str | None, str, dict[str, int]]:
    """The rule by which it is dropped, the text afterwards, and changes by rule."""
    document = Document("1", text, "test", language)
    dropped = step(document)
    assert all(change.step == "c4_quality" for change in document.history)
    changes = {change.rule: change.count for change in document.history}
    return dropped.rule if dropped else None, document.text, changes


@pytest.mark.parametrize(
    ("fields", "line", "removed", "name"),
    [
        ({"max_word_length": 9}, "a 123456789 b", "a 1234567890 b", "long_word"),
        ({"line_ends": True}, "so it is.", "so it is", "line_end"),
        ({"line_ends": True}, "so it is!", "so it is...", "line_end"),
        ({"line_ends": True}, "'so it is'", "so it is:", "line_end"),
        ({"line_ends": True}, '"so it is"', "so it is。", "line_end"),
        ({"min_words_a_line": 3}, "so it is", "so it-is", "few_words"),
        ({"javascript": True}, "Use Java script", "Use JavaScript", "javascript"),
        ({"policy": True}, "Our policy on privacy", "Our Privacy Policy", "policy"),
        ({"policy": True}, "We eat cookies", "We use cookies", "policy"),
    ],
)
def test_lines_are_removed(fields: dict[str, Any], line: str, removed: str, name: str) -> None:
    step = C4Quality(**OFF | fields)
    text = f"{LINE}\n{line}\n{LINE}"
    assert result(step, text) == (None, text, {})
    bad = f"{LINE}\n{removed}\n{removed}\n{LINE}"
    assert result(step, bad) == (None, f"{LINE}\n{LINE}", {name: 2})
    assert result(C4Quality(**OFF), bad) == (None, bad, {})


@pytest.mark.parametrize(
    ("fields", "kept", "dropped", "name"),
    [
        ({"lorem_ipsum": True}, "Lorem the ipsum.", "A Lorem Ipsum.", "lorem_ipsum"),
        ({"curly_bracket": True}, "a } b", "a { b", "curly_bracket"),
        ({"min_sentences": 3}, "One. Two! Three", "One. Two", "few_sentences"),
        ({"min_sentences": 3}, "One\nTwo\nThree", "One\nTwo", "few_sentences"),
        ({"line_ends": True}, "One.", "One", "few_sentences"),
    ],
)
def test_documents_are_dropped(fields: dict[str, Any], kept: str, dropped: str, name: str) -> None:
    step = C4Quality(**OFF | fields)
    assert result(step, kept) == (None, kept, {})
    assert result(step, dropped) == (name, dropped, {})
    assert result(C4Quality(**OFF), dropped) == (None, dropped, {})


def test_what_is_in_removed_lines_drops_nothing() -> None:
    text = "\n".join([LINE] * 5)
    more = f"{text}\nfunction {{ return }}\nlorem ipsum dolor sit\nJavaScript is off."
    assert result(C4Quality(), more) == (None, text, {"line_end": 2, "javascript": 1})
    assert result(C4Quality(), f"{text}\nfunction {{ return }}.")[0] == "curly_bracket"


def test_citations_are_taken_out() -> None:
    text = "\n".join([LINE] * 5)
    cited = text.replace("line", "line[1][citation needed]").replace("words.", "words.[edit]")
    assert result(C4Quality(), cited) == (None, text, {"citations": 15})
    assert result(C4Quality(citations=False), cited)[0] == "few_sentences"
    array = "\n".join(["We have a[0] and a[i] here.[]"] * 5)
    found = "\n".join(["We have a and a[i] here."] * 5)
    assert result(C4Quality(), array) == (None, found, {"citations": 10})


def test_white_space_is_a_change() -> None:
    text = "\n".join([LINE] * 5)
    assert result(C4Quality(), text.replace("\n", "\n\n")) == (None, text, {"white_space": 4})
    for other in (text + "\n", text.replace("\n", "\r\n"), "  " + text, text + " "):
        assert result(C4Quality(), other) == (None, text, {"white_space": 1})


def test_the_history_is_of_this_step() -> None:
    document = Document("1", f"{LINE}\n" * 5 + "no end", "test")
    document.history.append(Changed("other", "rule", 1))
    assert C4Quality()(document) is None
    assert document.history == [
        Changed("other", "rule", 1),
        Changed("c4_quality", "line_end", 1),
    ]


def test_lines_end_otherwise_in_other_languages() -> None:
    hindi = "\n".join(["सभी मनुष्यों को गौरव प्राप्त है।"] * 5)
    assert result(C4Quality(), hindi)[0] == "few_sentences"
    assert result(C4Quality(), hindi, "en")[0] == "few_sentences"
    assert result(C4Quality(), hindi, "hi") == (None, hindi, {})
    chinese = "\n".join(["人人生而自由，一律平等。"] * 5)
    assert result(C4Quality(), chinese, "zh") == (None, chinese, {})
    assert result(C4Quality(), chinese + "\n平等。", "zh") == (None, chinese, {"few_words": 1})
    assert result(C4Quality(), chinese.replace("\n", "") * 40, "zh")[0] is None
    thai = "\n".join(["มนุษย์ทั้งหลายเกิดมามีอิสระ"] * 5)
    assert result(C4Quality(), thai, "th") == (None, thai, {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", 1),
        ("no end", 1),
        ("One. Two? Three!", 3),
        ("One.Two. three. ", 3),
        ("Mr. Bell said 3.5 a.m. was late.", 1),
        ('He said "No." (Yes.) Then he left.', 3),
        ("Wait... what", 1),
        ("What?! No.", 2),
        ("Stop. - .", 1),
        ("One. 2", 2),
        ("一。二！三", 3),
    ],
)
def test_sentences(text: str, expected: int) -> None:
    assert count_sentences([text], 99) == expected
    assert count_sentences([text] * 4, 99) == 4 * expected
    assert count_sentences([text] * 4, expected) == expected


LINES = [LINE, "a b c. d", "a b.", "x[1] y z.", "{ a b.", "lorem ipsum.", "javascript a b.", ""]
LINES += ["some words use cookies.", "a b c\u2028d e f!", "\ta b c.", " ", "a" * 1001 + " b c."]
TEXTS = st.lists(st.sampled_from(LINES), max_size=12)


@given(TEXTS)
def test_a_changed_text_has_a_history(lines: list[str]) -> None:
    text = "\n".join(lines)
    dropped, after, changes = result(C4Quality(), text)
    assert (after != text) == bool(changes)
    assert all(count > 0 for count in changes.values())
    if dropped:
        assert after == text
    else:
        assert all(line.strip() == line and line.endswith((".", "!")) for line in after.split("\n"))
        assert result(C4Quality(), after) == (None, after, {})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_word_length": -1}, "max_word_length is 0 or more, or null, not -1"),
        ({"min_sentences": -1}, "min_sentences is 0 or more, or null, not -1"),
    ],
)
def test_values_that_cannot_be_are_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        C4Quality(**fields)


def test_it_is_read_and_pickled() -> None:
    step = parse_config(C4Quality, "min_sentences: null\npolicy: false")
    assert step == C4Quality(min_sentences=None, policy=False)
    assert parse_config(C4Quality, format_config(step)) == step
    assert pickle.loads(pickle.dumps(step)) == step
