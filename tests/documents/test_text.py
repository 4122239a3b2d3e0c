"""Plain text, Markdown and reStructuredText, in whatever encoding."""

from __future__ import annotations

import codecs
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.documents.decoding import decode, decode_page
from everlong.documents.extracted import Limits, clean, language_code
from everlong.documents.restructured_text import read_restructured_text
from everlong.documents.text import read_markdown, read_text
from everlong.errors import ConfigError, DataError

LIMITS = Limits()


@pytest.mark.parametrize(
    ("data", "text", "encoding"),
    [
        ("grün 漢字".encode(), "grün 漢字", None),
        (codecs.BOM_UTF8 + b"a", "a", None),
        ("\ufeffgrün".encode("utf-16-le"), "grün", "utf-16-le"),
        ("\ufeffgrün".encode("utf-32-be"), "grün", "utf-32-be"),
        (
            "Die Straße ist grün – sagt man".encode("cp1252"),
            "Die Straße ist grün – sagt man",
            "windows-1252",
        ),
        (b"a\r\nb\rc\n\0d", "a\nb\nc\nd", None),
    ],
)
def test_encodings_are_told(data: bytes, text: str, encoding: str | None) -> None:
    found = read_text(data + b" " * 200 if b"\0d" in data else data, LIMITS)
    assert found.text.rstrip(" ") == text
    assert found.metadata == ({"encoding": encoding} if encoding else {})


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"\0" * 100, "binary"),
        (bytes(range(256)), "not text"),
        ("Русский текст в старой кодировке".encode("cp1251"), "unknown encoding"),
        ("日本語の文章です".encode("shift_jis"), "unknown encoding"),
        (b"\x1f\x8b\x08\xff\xfe", "not text"),
    ],
)
def test_what_is_no_text_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_text(data, LIMITS)


def test_limits_hold() -> None:
    with pytest.raises(DataError, match="of 6 letters; letters allows 5"):
        read_text(b"abcdef", Limits(letters=5))
    with pytest.raises(ConfigError, match="pages is 0"):
        Limits(pages=0)
    with pytest.raises(ConfigError, match="nesting is 300; it can be 250 at most"):
        Limits(nesting=300)


@given(st.text(st.characters()))
def test_cleaned_text_can_be_written(text: str) -> None:
    cleaned = clean(text)
    assert cleaned.encode().decode() == cleaned == clean(cleaned)
    assert not set(cleaned) & {"\r", "\0"}
    if not set(text) & {"\r", "\0"} and not any("\ud800" <= c <= "\udfff" for c in text):
        assert cleaned == text


@given(
    st.binary(max_size=200), st.sampled_from([None, "utf-8", "latin1", "rot13", "idna", "x" * 99])
)
def test_any_page_can_be_decoded(data: bytes, charset: str | None) -> None:
    decode_page(data, charset)
    try:
        text, _ = decode(data)
    except DataError:
        return
    assert isinstance(text, str)


@pytest.mark.parametrize(
    ("tag", "code"),
    [
        *(("en-GB", "en"), ("pt_BR", "pt"), ("YUE", "yue"), ("und", None), ("english", None)),
        *(("", None), (None, None), ("x", None), ("zh-Hant", "zh")),
    ],
)
def test_codes_of_languages(tag: str | None, code: str | None) -> None:
    assert language_code(tag) == code


def test_front_matter_goes() -> None:
    front = b"---\ntitle: 'A: title'\nlang: de-CH\nlicense: CC-BY-4.0\ntags: [a]\n---\n\n"
    found = read_markdown(front + b"# Head\n\n---\nx", LIMITS)
    assert found.text == "# Head\n\n---\nx"
    assert (found.title, found.language, found.licence) == ("A: title", "de", "CC-BY-4.0")
    assert read_markdown(b'+++\ntitle = "T"\n+++\ntext', LIMITS).title == "T"
    assert read_markdown(b"---\nJust a rule.\n---\ntext", LIMITS).text.startswith("---")
    assert read_markdown(b"text\n\n# Head #\n", LIMITS).title == "Head"
    assert read_markdown(b"Head\n====\ntext", LIMITS).title == "Head"
    assert read_markdown(b"no head", LIMITS).title is None
    with pytest.raises(DataError, match="nothing behind"):
        read_markdown(b"---\ntitle: x\n---\n", LIMITS)


RST = b"""\
:Author: Ann
:License: MIT

=====
Title
=====

.. a comment
   of two lines

See :func:`~a.b.run`, ``x*`` and `a page <http://a.example>`_, `there`_ [1]_.

Part
----

Example::

    x = 1

      y = 2

After.

.. code-block:: python
   :linenos:

   def f(): pass

.. note:: Short.

.. deprecated:: 3.2
   Use another.

.. function:: run(a)

   Runs.

   .. code::

      inner

.. toctree::
   :maxdepth: 2

   a
   b

.. [1] A footnote.
.. _there: http://a.example

Deeper
~~~~~~

- point
"""


def test_restructured_text_becomes_markdown() -> None:
    found = read_restructured_text(RST, LIMITS)
    assert (found.title, found.licence, found.metadata) == ("Title", "MIT", {"author": "Ann"})
    assert found.text == (
        "# Title\n\nSee run, `x*` and a page, there [1].\n\n## Part\n\nExample:\n\n"
        "```\nx = 1\n\n  y = 2\n```\n\nAfter.\n\n```python\ndef f(): pass\n```\n\nNote: Short.\n\n"
        "Deprecated since version 3.2\nUse another.\n\nrun(a)\n\nRuns.\n\n```\ninner\n```\n\n"
        "[1] A footnote.\n\n### Deeper\n\n- point"
    )
    with pytest.raises(DataError, match="nothing is left"):
        read_restructured_text(b".. toctree::\n\n   a\n", LIMITS)


LINES = (
    *("Title", "=====", "-----", "", "::", ".. note:: x", "   in", "      deeper", ".. c", "a::"),
    *(".. code-block::", ":a: b", "`x <y>`_", "``a``", "..", "   .. note::", "\t.. math:: x"),
)


@settings(deadline=None, max_examples=200)
@given(
    st.lists(
        st.sampled_from(LINES),
        max_size=40,
    )
)
def test_no_markup_stops_reading(lines: list[str]) -> None:
    try:
        read_restructured_text("\n".join(lines).encode(), LIMITS)
    except DataError:
        return


@pytest.mark.parametrize(
    "line", ["`a" + " " * 100_000 + "b`", "a" + ":a" * 50_000 + "`b`"], ids="ab"
)
def test_hostile_markup_takes_no_time(line: str) -> None:
    begin = time.process_time()
    read_restructured_text(line.encode(), LIMITS)
    assert time.process_time() - begin < 2


def test_deep_blocks_do_not_stop_reading() -> None:
    lines = "".join(f"{'   ' * n}.. note::\n\n" for n in range(400))
    assert "Note:" in read_restructured_text(lines.encode(), LIMITS).text
