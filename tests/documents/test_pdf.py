"""PDF files: texts of pages put together, without what belongs to the pages."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.documents.extracted import Limits
from everlong.documents.pdf import pages_text, read_pdf
from everlong.errors import DataError
from tests.documents.pdf_bytes import pdf

pytest.importorskip("pypdfium2")
LIMITS = Limits()
LINE = "this line is a full one, as wide as lines of a page are, and goes on"
SIMPLE = pdf([["One line."], ["Another line."]], "A title")


def test_pages_are_read() -> None:
    found = read_pdf(SIMPLE, LIMITS)
    assert found.text == "One line.\n\nAnother line."
    assert found.title == "A title"
    assert found.metadata == {"pages": 2}


def test_running_heads_and_numbers_go() -> None:
    pages = [
        ["The Book", f"Page {n} is about {word}.", f"{LINE}", "to its end.", str(n)]
        for n, word in enumerate(("apples", "pears", "plums", "nuts", "figs"), start=9)
    ]
    text = read_pdf(pdf(pages), LIMITS).text
    assert "The Book" not in text
    assert text.count("is about") == 5
    assert not [line for line in text.split("\n") if line.isdecimal()]


def test_heads_of_either_side_and_of_chapters_go() -> None:
    pages = []
    for number in range(1, 13):
        chapter = "Beginnings" if number < 7 else "Ends"
        head = f"{number} The Author" if number % 2 == 0 else f"{chapter} {number}"
        letter = "abcdefghijklm"[number]
        pages.append(f"{head}\nSentence {letter} of it.\nMore of it, {letter}.\n")
    text = pages_text(pages)
    assert "Author" not in text
    assert "Beginnings" not in text
    assert "Ends" not in text
    assert text.count("Sentence") == text.count("More of it,") == 12


def test_what_is_not_repeated_stays() -> None:
    pages = ["Title\nSome text.\nThe end.", "Other\nOther text.\n7", "Third\nMore text.\nDone."]
    assert pages_text(pages).count("\n\n") == 8
    assert pages_text(pages[:1]) == "Title\n\nSome text.\n\nThe end."
    assert pages_text([]) == ""


def test_divided_words_and_lines_are_put_together() -> None:
    page = (
        f"{LINE} un-\nder a well-known thing and so on, so that this is a full line of a well-\n"
        f"known page, and the North-\nSouth line.\n{LINE}\n- an item"
    )
    text = pages_text([page.replace("\n", "\r\n")])
    assert "under a well-known" in text
    assert "of a well-known page" in text
    assert "North-South" in text
    assert text.endswith("\n\n- an item")
    assert pages_text(["wide enough to be a full line of text, the soft\ufffe\r\nware is one word"])
    assert "software" in pages_text(
        [f"{LINE} soft\ufffe\r\nware that is one word, and so on {LINE}"]
    )


def test_a_page_of_one_word_takes_no_time() -> None:
    begin = time.process_time()
    assert pages_text([f"un-\nder {'a' * 100_000}"]) == f"under {'a' * 100_000}"
    assert time.process_time() - begin < 2


def test_paragraphs_go_on_over_pages() -> None:
    assert pages_text([LINE, "over the page it ends."]) == f"{LINE} over the page it ends."
    assert "\n\n" in pages_text(["It ended.", "over the page."])


def test_verse_stays_in_lines() -> None:
    verse = "Shall I compare thee to a summer\nThou art more lovely and temperate\nRough winds"
    assert pages_text([verse]).split("\n\n") == verse.split("\n")


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "not a PDF file"),
        (b"%PDF-1.4\n", "not a PDF file"),
        (b"%PDF-1.4\n" + bytes(range(256)) * 20, "not a PDF file"),
        (pdf([["secret"]], encrypted=True), "encrypted; save the file without a password"),
        (pdf([[]]), "no text: its pages may be pictures"),
        (pdf([]), "not a PDF file|no text"),
    ],
)
def test_what_cannot_be_read_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_pdf(data, LIMITS)


def test_limits_hold() -> None:
    with pytest.raises(DataError, match="2 pages; pages allows 1"):
        read_pdf(SIMPLE, Limits(pages=1))
    with pytest.raises(DataError, match="letters allows 12"):
        read_pdf(SIMPLE, Limits(letters=12))


@settings(deadline=None, max_examples=100)
@given(st.integers(0, len(SIMPLE) - 1), st.binary(max_size=20), st.integers(0, 20))
def test_damaged_files_are_read_or_refused(place: int, junk: bytes, gone: int) -> None:
    try:
        found = read_pdf(SIMPLE[:place] + junk + SIMPLE[place + gone :], LIMITS)
    except DataError:
        return
    assert found.text


@settings(deadline=None)
@given(st.lists(st.text(alphabet="aB1.- \n\r\x02", max_size=60), max_size=8))
def test_any_pages_can_be_put_together(pages: list[str]) -> None:
    text = pages_text(pages)
    assert text == text.strip()
    assert sum(map(str.isalpha, text)) == sum(c.isalpha() for c in "".join(pages)) or len(pages) > 2
