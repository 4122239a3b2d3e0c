from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from everlong.data.languages import by_language
from everlong.errors import DataError


def test_long_texts_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text(f"lang\ttext\nen\t{'x' * 200_000}\nen\ty\n")
    assert [len(one) for one in by_language([tmp_path / "a.tsv"])["en"]] == [200_000, 1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.tsv.gz", gzip.compress(b"lang\ttext\n" + b"en\tx\n" * 999, mtime=0)[:-20] + b"x" * 20),
        ("a.jsonl", b"[" * 100_000),
        ("a.jsonl", b"\xff"),
        ("a.jsonl", b'{"lang": "en"}'),
    ],
)
def test_bad_files_are_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        by_language([tmp_path / name])
