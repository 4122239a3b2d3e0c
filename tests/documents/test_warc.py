"""Web archives: texts of pages, and what is damaged is told of and passed over."""

from __future__ import annotations

import gzip
import io
import tracemalloc
import zlib
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.documents.extracted import Extracted, Limits, Refused
from everlong.documents.warc import read_warc
from everlong.errors import DataError
from tests.documents.warc_bytes import PAGE, arc, packed, page, record, response

Found = Extracted | Refused


def read(data: bytes, limits: Limits | None = None) -> list[Found]:
    found: list[Found] = []
    for one in read_warc(io.BytesIO(data), limits or Limits()):
        try:
            found.append(one if isinstance(one, Refused) else one.read())
        except DataError as error:
            found.append(Refused(one.place, str(error)))
    return found


def places(found: Sequence[Found]) -> list[str]:
    return [one.place for one in found if isinstance(one, Extracted)]


def refused(found: Sequence[Found]) -> list[Refused]:
    return [one for one in found if isinstance(one, Refused)]


@pytest.mark.parametrize("join", [lambda *r: b"".join(r), packed, lambda *r: packed(b"".join(r))])
def test_pages_and_texts_are_read_and_nothing_else(join: Callable[..., bytes]) -> None:
    data = join(
        record(b"software: me\r\n", kind="warcinfo", media_type="application/warc-fields"),
        record(b"GET / HTTP/1.1\r\n\r\n", kind="request"),
        record(page(3), url="<http://a.example/3>"),
        record(response(b"moved", status="301 Moved")),
        record(response(b"\x89PNG\0\0", "Content-Type: image/png")),
        record(response(b"a\r\nplain text", "Content-Type: text/plain")),
        record(b"127.0.0.1", url="dns:a.example", media_type="text/dns"),
        record("öfter".encode(), kind="conversion", media_type="text/plain"),
        record(page(9)),
    )
    found = read(data)
    assert places(found) == ["3", "6", "8", "9"]
    assert not refused(found)
    first, plain, conversion, last = (one for one in found if isinstance(one, Extracted))
    assert first.text.startswith("The text of page 3 has")
    assert "Home" not in first.text
    assert (first.title, first.language) == ("Title 3", "en")
    assert first.metadata == {"url": "http://a.example/3", "date": "2026-01-02T03:04:05Z"}
    assert (plain.text, conversion.text) == ("a\nplain text", "öfter")
    assert "page 9" in last.text


def test_arc_files_are_read() -> None:
    for data in (arc(page(1), page(2)), gzip.compress(arc(page(1), page(2)))):
        found = read(data)
        assert places(found) == ["2", "3"]
        assert not refused(found)
        assert isinstance(found[0], Extracted)
        assert found[0].metadata["url"] == "http://a.example/0"


@pytest.mark.parametrize(
    "broken",
    [
        record(page(2), length=len(page(2)) - 40),
        record(page(2), length=len(page(2)) + 40),
        record(page(2), length="many"),
        record(page(2), length=-5),
        record(page(2), length=1 << 60),
        b"WARC/1.0\r\nno head\r\n\r\n",
        b"something else\r\n\r\n",
        record(b"no answer"),
    ],
)
@pytest.mark.parametrize("join", [lambda *r: b"".join(r), packed, lambda *r: packed(b"".join(r))])
def test_a_broken_record_is_told_of_and_the_next_is_read(
    broken: bytes, join: Callable[..., bytes]
) -> None:
    found = read(join(record(page(1)), broken, record(page(3))))
    assert ["page 1" in one.text for one in found if isinstance(one, Extracted)] == [True, False]
    assert [one for one in found if isinstance(one, Extracted)][-1].text.count("page 3") == 2
    assert len(refused(found)) == 1
    assert len({one.place for one in found}) == 3


def test_a_damaged_member_is_told_of_and_the_next_is_read() -> None:
    members = [gzip.compress(record(page(n))) for n in range(5)]
    members[2] = members[2][:30] + bytes(60) + members[2][90:]
    found = read(b"".join(members))
    assert ["1" in places(found), "2" in places(found), len(places(found))] == [True, True, 4]
    (told,) = refused(found)
    assert told.place == "3"
    assert "damaged" in told.reason


def test_a_file_that_was_cut_off_is_read_up_to_there() -> None:
    whole = packed(*(record(page(n)) for n in range(3)))
    found = read(whole[:-40])
    assert places(found) == ["1", "2"]
    (told,) = refused(found)
    assert "ends within" in told.reason
    plain = b"".join(record(page(n)) for n in range(3))
    (told,) = refused(read(plain[:-100]))
    assert "of which" in told.reason
    assert read(b"") == []


def test_bodies_are_unpacked_as_their_heads_say() -> None:
    body = PAGE.format(7).encode()
    chunks = b"".join(b"%x;x=y\r\n%s\r\n" % (len(p), p) for p in (body[:50], body[50:]))
    kind = "Content-Type: text/html"
    answers = [
        response(gzip.compress(body), kind, "Content-Encoding: gzip"),
        response(zlib.compress(body), kind, "Content-Encoding: deflate"),
        response(zlib.compress(body)[2:-4], kind, "Content-Encoding: deflate"),
        response(chunks + b"0\r\n\r\n", kind, "Transfer-Encoding: chunked"),
        response(body, kind, "Transfer-Encoding: chunked", "Content-Encoding: gzip"),
        response(chunks, kind, "Transfer-Encoding: chunked"),
        response(body, "X: no type"),
    ]
    found = read(b"".join(map(record, answers)))
    assert not refused(found)
    assert {one.text.count("page 7") for one in found if isinstance(one, Extracted)} == {2}
    assert len(found) == len(answers)
    unknown = record(response(body, kind, "Content-Encoding: br"))
    assert "encoded as br" in refused(read(unknown))[0].reason


@pytest.mark.parametrize(
    ("encoding", "head", "meta"),
    [
        ("cp1252", "text/html; charset=iso-8859-1", ""),
        ("cp1252", "text/html", ""),
        ("cp1251", "text/html", "<meta charset=windows-1251>"),
        ("shift_jis", "text/html", '<meta http-equiv=x content="text/html; charset=Shift_JIS">'),
        ("utf-8", "text/html; charset=iso-8859-1", ""),
        ("utf-16", "text/html", ""),
    ],
)
def test_encodings_are_those_declared(encoding: str, head: str, meta: str) -> None:
    word = {"cp1251": "слово", "shift_jis": "言葉"}.get(encoding, "größer")
    text = f"<html><head>{meta}</head><body><p>{word} " + "and many more words " * 9
    found = read(record(response(text.encode(encoding), f"Content-Type: {head}")))
    assert isinstance(found[0], Extracted)
    assert found[0].text.startswith(word)


def test_what_unpacks_to_too_much_is_refused_and_never_in_memory() -> None:
    limits = Limits(record_bytes=1 << 20)
    bomb = gzip.compress(bytes(64 << 20))
    kind = "Content-Type: text/html"
    data = packed(
        record(response(bomb, kind, "Content-Encoding: gzip")),
        record(bytes(64 << 20)),
        b"WARC/1.0\r\n" + bytes(64 << 20),
        record(page(3)),
    )
    tracemalloc.start()
    found = read(data, limits)
    assert tracemalloc.get_traced_memory()[1] < 20 << 20
    tracemalloc.stop()
    assert places(found) == ["4"]
    assert len(refused(found)) == 3


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_no_damage_stops_reading(data: st.DataObject) -> None:
    join = data.draw(st.sampled_from([packed, lambda *r: b"".join(r)]))
    good = join(*(record(page(n)) for n in range(4)))
    start = data.draw(st.integers(0, len(good) - 1))
    length = data.draw(st.integers(0, 80))
    bad = good[:start] + data.draw(st.binary(max_size=80)) + good[start + length :]
    found = read(bad)
    assert len({one.place for one in found}) == len(found)
    # What was damaged are at most two records that stand side by side.
    assert len(places(found)) >= 2 or join is not packed


def test_records_are_those_that_warcio_reads() -> None:
    archiveiterator = pytest.importorskip("warcio.archiveiterator")
    parts = [record(page(n), url=f"http://a.example/{n}") for n in range(9)]
    for data in (packed(*parts), b"".join(parts), arc(*(page(n) for n in range(3)))):
        theirs = [
            one.rec_headers.get_header("WARC-Target-URI") or one.rec_headers.get_header("uri")
            for one in archiveiterator.ArchiveIterator(io.BytesIO(data))
            if one.rec_type == "response"
        ]
        ours = [one.metadata["url"] for one in read(data) if isinstance(one, Extracted)]
        assert ours == theirs


def test_a_file_of_damaged_records_is_not_read_to_its_end() -> None:
    """Each makes its reader read on as far as it claims to go, and the next begins right behind."""
    found = read(b"WARC/1.0\r\nContent-Length: 5000\r\n\r\n" * 2000)
    assert len(found) == 500
    last = found[-1]
    assert isinstance(last, Refused)
    assert "cannot be read on: 500 of its records are damaged" in last.reason
