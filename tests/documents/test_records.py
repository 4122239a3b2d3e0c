"""Records: lines of JSON and rows of Parquet."""

from __future__ import annotations

import gzip
import json
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from everlong.documents.extracted import Extracted, Limits, Refused
from everlong.documents.parts import parts
from everlong.documents.reading import read
from everlong.errors import ConfigError


def written(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(found: list[Extracted | Refused]) -> list[tuple[str, str]]:
    return [(one.place, one.text) for one in found if isinstance(one, Extracted)]


def test_records_give_texts_and_what_they_say(tmp_path: Path) -> None:
    record = {
        "text": "one\r\ntwo\0",
        "title": "T",
        "lang": "de-AT",
        "license": "CC-BY-4.0",
        "url": "http://a.example",
        "score": 0.5,
        "kept": True,
        "tags": ["no"],
        "none": None,
        "long": "x" * 5000,
        "metadata": {"id": 7, "url": "not this"},
    }
    (found,) = read(written(tmp_path / "a.jsonl", record))
    told = {"url": "http://a.example", "score": 0.5, "kept": True, "id": 7}
    assert found == Extracted("1", "one\ntwo", "T", "de", "CC-BY-4.0", told)


def test_the_field_of_the_text_can_be_another(tmp_path: Path) -> None:
    path = written(tmp_path / "a.jsonl", {"body": ["one", "two"], "text": "no"})
    (found,) = read(path, text_field="body")
    assert isinstance(found, Extracted)
    assert (found.text, found.metadata) == ("one\ntwo", {"text": "no"})


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"{", "not JSON"),
        (b"[1]", "must be an object, not list"),
        (b'{"txt": "x"}', "has no text in text; its fields: txt"),
        (b'{"text": 1}', "has no text in text but int; give a string, or a list"),
        (b'{"text": null}', "has no text in text but null"),
        (b'{"k\\ud800": 1}', "its fields: k"),
        (b'{"text": " \\n"}', "is empty"),
        (b'{"text": "\\ud800"}', "is empty"),
        (b'{"text": "\xff"}', "not JSON in UTF-8"),
        (b'{"text": ' + b"[" * 100_000, "not JSON"),
        (b'{"text": ' + b"1" * 10_000 + b"}", "not JSON"),
        (b'{"text": "' + b"x" * 3000 + b'"}', "record_bytes allows 2,000"),
    ],
)
def test_a_broken_line_is_told_with_its_number(tmp_path: Path, line: bytes, told: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n\n' + line + b'\r\n{"text": "d"}')
    limits = Limits(record_bytes=2000 if len(line) < 5000 else 1 << 20)
    first, refused, last = read(path, limits)
    assert isinstance(refused, Refused)
    assert refused.place == "3"
    assert told in refused.reason
    assert texts([first, last]) == [("1", "a"), ("4", "d")]


def test_a_line_of_a_hundred_megabytes_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    with path.open("wb") as file:
        file.write(b'{"text": "')
        for _ in range(100):
            file.write(b"x" * (1 << 20))
        file.write(b'"}\n{"text": "b"}\n')
    tracemalloc.start()
    refused, found = read(path, Limits(record_bytes=1 << 20))
    assert tracemalloc.get_traced_memory()[1] < 12 << 20
    tracemalloc.stop()
    assert isinstance(refused, Refused)
    assert "a line of 104,857,6" in refused.reason
    assert texts([found]) == [("2", "b")]


def test_packed_lines_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    lines = b"".join(b'{"text": "%d %d"}\n' % (n, n * n) for n in range(5000))
    path.write_bytes(gzip.compress(lines))
    assert len(list(read(path))) == 5000
    path.write_bytes(gzip.compress(lines)[:-3000])
    *found, last = read(path)
    assert 100 < len(found) < 5000
    assert isinstance(last, Refused)
    assert last.place == str(len(found) + 1)
    assert "cannot be read on" in last.reason


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.text(alphabet="aä\n\r", max_size=30), max_size=30),
    st.integers(1, 200),
    st.booleans(),
)
def test_parts_together_are_the_file(
    tmp_path_factory: pytest.TempPathFactory, rows: list[str], size: int, ended: bool
) -> None:
    path = tmp_path_factory.mktemp("parts") / "a.jsonl"
    data = b"".join(
        b"\n" if not row else json.dumps({"text": row}).encode() + b"\n" for row in rows
    )
    path.write_bytes(data if ended else data[:-1])
    made = parts(path, size)
    assert sum(part.bytes for part in made) == path.stat().st_size
    assert [one for part in made for one in read(part)] == list(read(path))
    assert all(part.bytes >= size for part in made[:-1])


def test_large_blocks_are_parted_too(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(b'{"text": "%0900d"}\n' % n for n in range(4000)))
    made = parts(path, 300_000)
    assert len(made) == 13
    assert [one for part in made for one in read(part)] == list(read(path))
    with pytest.raises(ConfigError, match="bytes_each is 0"):
        parts(path, 0)


def test_rows_of_parquet(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    table = arrow.table(
        {
            "text": [f"text {n}" if n != 3 else None for n in range(10)],
            "n": list(range(10)),
            "language": ["en"] * 10,
            "vector": [[1.0]] * 10,
            "metadata": [{"id": f"i{n}"} for n in range(10)],
        }
    )
    parquet.write_table(table, path, row_group_size=2)
    found = list(read(path))
    assert found[0] == Extracted("1", "text 0", None, "en", None, {"n": 0, "id": "i0"})
    assert isinstance(found[3], Refused)
    assert found[3].place == "4"
    assert len(found) == 10
    made = parts(path, 1)
    assert len(made) == 5
    assert [one for part in made for one in read(part)] == found
    assert [
        one.text for one in read(path, text_field="metadata") if isinstance(one, Extracted)
    ] == []
    (told,) = read(path, text_field="body")
    assert isinstance(told, Refused)
    assert "has no column body; its columns: text, n" in told.reason


def test_parquet_that_is_damaged(tmp_path: Path) -> None:
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    texts_of = arrow.StringArray.from_buffers(
        3,
        arrow.py_buffer(b"".join(n.to_bytes(4, "little") for n in (0, 4, 6, 10))),
        arrow.py_buffer(b"good\xff\xfemore"),
    )
    parquet.write_table(arrow.table({"text": texts_of}), path)
    first, refused, last = read(path)
    assert texts([first, last]) == [("1", "good"), ("3", "more")]
    assert isinstance(refused, Refused)
    assert "UTF-8" in refused.reason
    whole = path.read_bytes()
    for cut in (whole[:-9], whole[:100], b"PAR1", whole[:4] + bytes(200) + whole[204:]):
        path.write_bytes(cut)
        assert all(isinstance(one, Refused) for one in read(path))
        assert len(parts(path, 1)) >= 1
