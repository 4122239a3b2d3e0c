"""Word documents."""

from __future__ import annotations

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.documents.docx import read_docx
from everlong.documents.extracted import Limits
from everlong.errors import DataError
from tests.documents.zip_bytes import LAUGHS, W, docx, encrypted, zipped

pytest.importorskip("lxml")
LIMITS = Limits()


def paragraph(text: str, properties: str = "") -> str:
    return f"<w:p><w:pPr>{properties}</w:pPr><w:r><w:t>{text}</w:t></w:r></w:p>"


SIMPLE = docx(paragraph("one") + paragraph("two"))


def test_what_python_docx_writes_is_read() -> None:
    written = pytest.importorskip("docx")
    document = written.Document()
    document.core_properties.title = "Told"
    document.core_properties.author = "Ann"
    document.add_heading("Title", 0)
    document.add_heading("Chapter", 1)
    document.add_paragraph("Some text.").add_run(" More\tof it.").bold = True
    document.add_paragraph("point", style="List Bullet")
    document.add_heading("Part", 2)
    table = document.add_table(2, 2)
    for row, cells in enumerate((("a", "b"), ("1", "2"))):
        for column, text in enumerate(cells):
            table.cell(row, column).text = text
    document.add_paragraph("End.")
    file = io.BytesIO()
    document.save(file)
    found = read_docx(file.getvalue(), LIMITS)
    assert found.text == (
        "# Title\n\n# Chapter\n\nSome text. More\tof it.\n\npoint\n\n## Part\n\n"
        "| a | b |\n| --- | --- |\n| 1 | 2 |\n\nEnd."
    )
    assert (found.title, found.language) == ("Told", "en")
    assert found.metadata["author"] == "Ann"


def test_lists_changes_and_boxes() -> None:
    point = '<w:numPr><w:ilvl w:val="{0}"/><w:numId w:val="3"/></w:numPr>'
    body = (
        paragraph("one", point.format(0))
        + paragraph("two", point.format(1))
        + "<w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del><w:ins><w:r><w:t>kept</w:t>"
        "</w:r></w:ins><w:r><w:noBreakHyphen/><w:br/><w:instrText>PAGE</w:instrText></w:r>"
        "<w:r><w:txbxContent><w:p><w:r><w:t>box</w:t></w:r></w:p></w:txbxContent></w:r>"
        "<w:r><w:t>end</w:t></w:r></w:p>"
        + paragraph("deep", '<w:outlineLvl w:val="2"/>')
        + "<w:tbl><w:tr><w:tc><w:tbl><w:tr><w:tc>"
        + paragraph("in")
        + "</w:tc></w:tr></w:tbl></w:tc><w:tc>"
        + paragraph("a|b")
        + "</w:tc></w:tr></w:tbl>"
    )
    assert read_docx(docx(body), LIMITS).text == (
        "- one\n  - two\n\nbox\n\nkept-\nend\n\n### deep\n\n| in | a\\|b |\n| --- | --- |"
    )


def test_styles_are_headings_by_what_they_are_based_on() -> None:
    styles = (
        f'<w:styles xmlns:w="{W}"><w:docDefaults><w:rPrDefault><w:rPr><w:lang w:val="sv-SE"/>'
        '</w:rPr></w:rPrDefault></w:docDefaults><w:style w:styleId="R2"><w:name w:val="heading 2"/>'
        '</w:style><w:style w:styleId="Own"><w:basedOn w:val="R2"/></w:style>'
        '<w:style w:styleId="Loop"><w:basedOn w:val="Loop"/></w:style></w:styles>'
    )
    body = "".join(paragraph(s, f'<w:pStyle w:val="{s}"/>') for s in ("R2", "Own", "Loop", "No"))
    found = read_docx(docx(body, word_styles__xml=styles), LIMITS)
    assert found.text == "## R2\n\n## Own\n\nLoop\n\nNo"
    assert found.language == "sv"


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"PK\x03\x04", "its end is missing"),
        (SIMPLE[:-25], "its end is missing"),
        (encrypted(SIMPLE), "is encrypted"),
        (zipped({"a": "b"}), "it has no relations"),
        (zipped({"_rels/.rels": "<a/>"}), "it has no main part"),
        (docx(""), "without text"),
        (docx(LAUGHS + f'<w:document xmlns:w="{W}">&l9;</w:document>'), "entities|well-formed"),
        (docx("<w:p>" * 300 + "</w:p>" * 300), "nested|well-formed"),
    ],
)
def test_what_is_no_document_is_refused(data: bytes, told: str) -> None:
    with pytest.raises(DataError, match=told):
        read_docx(data, LIMITS)


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(DataError, match="letters allows 5"):
        read_docx(SIMPLE, Limits(letters=5))
    with pytest.raises(DataError, match="unpacks to more than 100 bytes"):
        read_docx(SIMPLE, Limits(xml_bytes=100))


@settings(deadline=None, max_examples=150)
@given(st.integers(0, len(SIMPLE) - 1), st.binary(max_size=20), st.integers(0, 20))
def test_damaged_documents_are_read_or_refused(place: int, junk: bytes, gone: int) -> None:
    try:
        found = read_docx(SIMPLE[:place] + junk + SIMPLE[place + gone :], LIMITS)
    except DataError:
        return
    assert found.text
