"""Any file: its reader, and that nothing in a file stops the reading of files."""

from __future__ import annotations

import gzip
import pickle
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.documents.extracted import Extracted, Limits, Refused
from everlong.documents.parts import Part, parts
from everlong.documents.reading import READERS, read
from tests.documents.pdf_bytes import pdf
from tests.documents.warc_bytes import packed, page, record, response
from tests.documents.zip_bytes import docx, epub, zipped
from tests.evaluation.public_data import public_data

HTML = b"<!DOCTYPE html><html><body><p>some words of a page</p></body></html>"
WORD = docx("<w:p><w:r><w:t>some words</w:t></w:r></w:p>")
BOOK = epub({"1.xhtml": "some words"})
PAPER = pdf([["some words"]])


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.txt", b"some words"),
        ("a.TXT.gz", gzip.compress(b"some words")),
        ("a.txt", gzip.compress(b"some words")),
        ("a.md", b"some words"),
        ("a.rst", b"some words"),
        ("a.html", HTML),
        ("a", HTML),
        ("a.php3", b"\n<!-- x --><HTML><body>some words"),
        ("a.html.gz", gzip.compress(HTML)),
        ("a.pdf", PAPER),
        ("paper.txt", PAPER),
        ("a.pdf.gz", gzip.compress(PAPER)),
        ("a.docx", WORD),
        ("a.epub", BOOK),
        ("book.zip", BOOK),
        ("a.py", b"some words"),
        ("Dockerfile", b"some words"),
        ("a.jsonl", b'{"text": "some words"}'),
        ("a.ndjson.gz", gzip.compress(b'{"text": "some words"}')),
        ("a.warc", record(b"some words", kind="conversion", media_type="text/plain")),
        ("a.warc.gz", packed(record(b"some words", kind="conversion", media_type="text/plain"))),
        ("a.gz", packed(record(b"some words", kind="conversion", media_type="text/plain"))),
    ],
)
def test_the_reader_is_found_by_name_and_content(tmp_path: Path, name: str, data: bytes) -> None:
    (found,) = read(written(tmp_path / name, data))
    assert isinstance(found, Extracted), found
    assert found.text.startswith("some words")


@pytest.mark.parametrize(
    ("name", "data", "told"),
    [
        ("a.xyz", b"text", "no reader for .xyz; there are those for .1, .2, .3"),
        ("noname", b"text", "no reader for noname"),
        ("a.zip", zipped({"a": "b"}), "neither an EPUB nor a Word file"),
        ("a.txt", zipped({"a": "b"}), "neither an EPUB nor a Word file"),
        ("a.txt", b"", "an empty text"),
        ("a.html", b"", "page"),
        ("a.pdf", b"", "not a PDF file"),
        ("a.epub", b"", "not a complete ZIP file"),
        ("a.parquet", b"", "not a Parquet file"),
        ("a.txt.gz", gzip.compress(b"x" * 10_000)[:-5], "ends within packed data"),
        ("a.txt.gz", gzip.compress(b"x" * 10_000)[:-5] + b"12345", "damaged packed data"),
        ("a.parquet.gz", gzip.compress(b"PAR1"), "unpack it"),
    ],
)
def test_what_cannot_be_read_is_told(tmp_path: Path, name: str, data: bytes, told: str) -> None:
    (found,) = read(written(tmp_path / name, data))
    assert isinstance(found, Refused), found
    assert found.place == ""
    assert told in found.reason


def test_files_that_are_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.txt"):
        (found,) = read(path)
        assert found == Refused("", "not a file")


def test_empty_files_of_records_have_none(tmp_path: Path) -> None:
    for name in ("a.jsonl", "a.warc"):
        assert list(read(written(tmp_path / name, b""))) == []


def test_skipped_numbers_are_refused_and_not_read(tmp_path: Path) -> None:
    lines = b'{"text": "a"}\n\n{"text": 1}\n{"text": "c"}\n{"text": "d"}\n'
    path = written(tmp_path / "a.jsonl", lines)
    found = list(read(path, skip={1: "took too long", 2: "too"}))
    assert [one.place for one in found] == ["1", "3", "4", "5"]
    assert found[1:3] == [Refused("3", "took too long"), Refused("4", "too")]
    pages = written(tmp_path / "a.warc", b"".join(record(page(n)) for n in range(3)))
    told = list(read(pages, skip={1: "took too long"}))
    assert [type(one) for one in told] == [Extracted, Refused, Extracted]
    text = written(tmp_path / "a.txt", b"text")
    assert list(read(text, skip={0: "no"})) == [Refused("", "no")]


def test_a_file_of_comments_is_told_soon(tmp_path: Path) -> None:
    """Where a comment ends must not depend on those behind it, for then each doubles the work."""
    start = time.perf_counter()
    (found,) = read(written(tmp_path / "a", b"<!---->" * 40 + b"x"))
    assert time.perf_counter() - start < 5
    assert isinstance(found, Refused)
    assert "no reader for a" in found.reason


@pytest.mark.parametrize(
    ("name", "data", "least"),
    [
        ("a.jsonl", b"\n" * 9 + b'{"text": "a"}\n' + b" \n", 10),
        ("a.jsonl", b"x" * (3 << 20) + b"\n", 2),
        ("a.warc", record(b"GET / HTTP/1.1\r\n\r\n", kind="request") * 7 + record(page(1)), 7),
        ("a.warc", record(response(b"moved", status="301 Moved")) * 5, 5),
    ],
)
def test_who_waits_is_told_that_reading_goes_on(
    tmp_path: Path, name: str, data: bytes, least: int
) -> None:
    told: list[None] = []
    path = written(tmp_path / name, data)
    limits = Limits(record_bytes=10_000)
    found = list(read(path, limits, alive=lambda: told.append(None)))
    assert len(told) >= least
    assert found == list(read(path, limits)), "which changes nothing"


def test_large_files_are_refused_and_never_in_memory(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt.gz", gzip.compress(bytes(64 << 20)))
    tracemalloc.start()
    (found,) = read(path, Limits(file_bytes=1 << 20))
    assert tracemalloc.get_traced_memory()[1] < 8 << 20
    tracemalloc.stop()
    assert isinstance(found, Refused)
    assert "more than 1,048,576 bytes" in found.reason


def test_a_large_file_of_lines_is_read_in_constant_memory(tmp_path: Path) -> None:
    line = b'{"text": "' + b"some words " * 60 + b'"}\n'
    path = written(tmp_path / "a.jsonl", line * 40_000)
    tracemalloc.start()
    count = sum(1 for _ in read(path))
    assert tracemalloc.get_traced_memory()[1] < 6 << 20
    tracemalloc.stop()
    assert count == 40_000


def test_packed_lines_are_one_part_whatever_their_name(tmp_path: Path) -> None:
    lines = b"".join(b'{"text": "text %d"}\n' % number for number in range(999))
    path = written(tmp_path / "a.jsonl", gzip.compress(lines))
    assert parts(path, 100) == [Part(path, path.stat().st_size)]
    assert len(list(read(path))) == 999


def test_other_files_are_one_part(tmp_path: Path) -> None:
    path = written(tmp_path / "a.warc", b"".join(record(page(n)) for n in range(9)))
    (part,) = parts(path, 10)
    assert part == Part(path, path.stat().st_size)
    assert pickle.loads(pickle.dumps(part)) == part
    assert list(read(part)) == list(read(path))


@settings(deadline=None, max_examples=300)
@given(
    st.sampled_from(sorted(READERS)),
    st.one_of(
        st.binary(max_size=200),
        st.builds(
            lambda data, place, junk: data[: place % len(data)] + junk + data[place % len(data) :],
            st.sampled_from([HTML, WORD, BOOK, PAPER, packed(record(page(1))), b'{"text": "x"}\n']),
            st.integers(0, 5000),
            st.binary(max_size=9),
        ),
    ),
)
def test_no_file_stops_reading(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / f"a{suffix}"
    found = list(read(written(path, data)))
    assert len({one.place for one in found}) == len(found)
    for one in found:
        assert one.text.strip() if isinstance(one, Extracted) else one.reason


def test_public_books_are_read() -> None:
    paths = sorted((public_data() / "books").glob("*.txt.gz"))[:3]
    for path in paths:
        (found,) = read(path)
        assert isinstance(found, Extracted)
        assert found.text.startswith("# ")
        assert found.metadata == {}
