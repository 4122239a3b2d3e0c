"""Books: their chapters in order, and files that were made to do harm."""

from __future__ import annotations

import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.documents.archive import resolved
from everlong.documents.epub import read_epub
from everlong.documents.extracted import Limits
from everlong.errors import DataError
from tests.documents.zip_bytes import LAUGHS, encrypted, epub, with_entries, zipped

pytest.importorskip("lxml")
LIMITS = Limits()
BOOK = epub({"1.xhtml": "First.", "2.xhtml": "Second."})


def xhtml(body: str) -> str:
    return f'<html xmlns="http://www.w3.org/1999/xhtml"><head/><body>{body}</body></html>'


def test_chapters_come_in_the_order_of_the_spine() -> None:
    found = read_epub(
        epub(
            {"b.xhtml": "Two &amp;&nbsp;three&hellip;", "a.xhtml": xhtml("<h2>One</h2><p>1<br/>2")},
            spine='<itemref idref="i1"/><itemref idref="i0"/><itemref idref="i1"/>'
            '<itemref idref="none"/>',
            head="<dc:title> A\n book </dc:title><dc:language>pt-BR</dc:language>"
            "<dc:creator>Ann</dc:creator><dc:creator>Bob</dc:creator>"
            "<dc:rights>https://creativecommons.org/licenses/by-sa/4.0/</dc:rights>",
        ),
        LIMITS,
    )
    assert found.text == "## One\n\n1\n2\n\nTwo &\u00a0three…"
    assert (found.title, found.language, found.licence) == ("A book", "pt", "CC-BY-SA-4.0")
    assert found.metadata == {"author": "Ann, Bob"}


def test_elements_become_markdown() -> None:
    body = (
        "<h1>A <em>head</em><br/>ing</h1><p>Some <b>bold</b>\n text.</p><script>no</script>"
        "<ul><li>one</li><li><p>two</p><ol><li>inner</li><li>more</li></ol></li></ul>"
        "<pre>a\n  b</pre><table><caption>C</caption><tr><th>x|y</th><th>z</th></tr>"
        "<tr><td><p>1</p><p>2</p></td></tr></table>"
        "<table><tr><td><h2>layout</h2></td><td>aside</td></tr></table>"
        '<math alttext="x^2"><mi>x</mi></math><ruby>漢<rt>kan</rt></ruby>tail<p>&#160;</p>'
    )
    expected = (
        "# A head ing\n\nSome bold text.\n\n- one\n- two\n  1. inner\n  2. more\n\n"
        "```\na\n  b\n```\n\nC\n\n| x\\|y | z |\n| --- | --- |\n| 1 2 |  |\n\n## layout\n\n"
        "aside\n\n$x^2$ 漢tail"
    )
    assert read_epub(epub({"1.xhtml": xhtml(body)}), LIMITS).text == expected


def test_broken_chapters_are_left_out_and_counted() -> None:
    deep = xhtml("<i>" * 300 + "x" + "</i>" * 300)
    laughs = LAUGHS + xhtml("<p>&l9;</p>")
    chapters = {"1.xhtml": "Good.", "2.xhtml": deep, "3.xhtml": laughs, "4.xhtml": "<"}
    found = read_epub(epub(chapters), LIMITS)
    assert found.text == "Good."
    assert found.metadata == {"chapters_left_out": 3}


def test_errors_in_a_chapter_are_mended() -> None:
    found = read_epub(epub({"1.xhtml": "<html><body><p>one<p>two & &unknown; <br></body>"}), LIMITS)
    assert "one" in found.text
    assert "two &" in found.text


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "http://a.example/x", ""])
def test_nothing_outside_is_read(name: str, tmp_path: Path) -> None:
    assert resolved("OPS/book.opf", name) is None
    with pytest.raises(DataError, match="without text; 1 chapters cannot be read"):
        read_epub(epub({name: "no"}), LIMITS)


def test_names_are_resolved() -> None:
    assert resolved("OPS/book.opf", "a%20b.xhtml#part") == "OPS/a b.xhtml"
    assert resolved("OPS/book.opf", "../x/./a.xhtml") == "x/a.xhtml"
    assert resolved("", "a/b") == "a/b"


def test_no_entity_reads_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("SECRET")
    chapter = f'<!DOCTYPE html [<!ENTITY x SYSTEM "{secret.as_uri()}">]>{xhtml("<p>&x;</p>")}'
    with pytest.raises(DataError, match="without text"):
        read_epub(epub({"1.xhtml": chapter}), LIMITS)
    opened = f'<!DOCTYPE html SYSTEM "{secret.as_uri()}">{xhtml("<p>text</p>")}'
    assert read_epub(epub({"1.xhtml": opened}), LIMITS).text == "text"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "its end is missing"),
        (BOOK[:-30], "its end is missing"),
        (BOOK[:200] + bytes(100) + BOOK[300:], "damaged|not in the file|not well-formed"),
        (encrypted(BOOK), "is encrypted"),
        (zipped({"a": "b"}), "container.xml is not in the file"),
        (zipped({"META-INF/container.xml": "<a/>"}), "names no package document"),
        (zipped({"META-INF/container.xml": LAUGHS + "<a>&l9;</a>"}), "entities|well-formed"),
        (zipped({"META-INF/container.xml": "<a"}), "not well-formed"),
        (zipped({"META-INF/container.xml": b"\xff\xfe<\0a\0"}), "not well-formed"),
        (with_entries(30_000), "30,000 entries"),
        (epub({"1.xhtml": ""}), "without text"),
        (
            epub(
                {"1.xhtml": "x"},
                **{"META-INF/encryption__xml": '<e><CipherReference URI="OPS/1.xhtml"/></e>'},
            ),
            "digital rights",
        ),
    ],
)
def test_what_is_no_book_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_epub(data, LIMITS)


def test_other_ways_of_compression_are_refused() -> None:
    data = zipped({"META-INF/container.xml": "<a/>" * 99}, zipfile.ZIP_LZMA)
    with pytest.raises(DataError, match="by method 14"):
        read_epub(data, LIMITS)


def test_bombs_do_not_go_off() -> None:
    limits = replace(LIMITS, xml_bytes=1 << 20, unpacked_bytes=2 << 20)
    bomb = epub({"1.xhtml": "x" * (64 << 20)})
    assert len(bomb) < 1 << 20
    tracemalloc.start()
    with pytest.raises(DataError, match="unpacks to more than 1,048,576 bytes"):
        read_epub(bomb, limits)
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    many = epub({f"{n}.xhtml": "x" * 900_000 for n in range(9)})
    with pytest.raises(DataError, match="unpacks to more than"):
        read_epub(many, limits)
    with pytest.raises(DataError, match="letters allows 1,000,000"):
        read_epub(many, replace(LIMITS, letters=1_000_000))


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(BOOK) - 1), st.binary(max_size=20), st.integers(0, 20))
def test_damaged_books_are_read_or_refused(place: int, junk: bytes, gone: int) -> None:
    try:
        found = read_epub(BOOK[:place] + junk + BOOK[place + gone :], LIMITS)
    except DataError:
        return
    assert found.text
