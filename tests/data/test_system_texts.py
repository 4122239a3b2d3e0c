"""Texts that the system has."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from everlong.data import system_texts
from everlong.data.system_texts import write_system_texts


def test_pages_and_licences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pages, licences = tmp_path / "man", tmp_path / "common"
    (pages / "man1").mkdir(parents=True)
    licences.mkdir()
    page = ".SH NAME\ntool \\- works\n.SH DESCRIPTION\n" + "It does a great deal of work.\n" * 20
    (pages / "man1" / "tool.1.gz").write_bytes(gzip.compress(page.encode()))
    (pages / "man1" / "same.1").write_text(page)
    (pages / "man1" / "link.1").write_text(".so man1/tool.1\n")
    (pages / "man1" / "broken.1.gz").write_bytes(b"\x1f\x8b broken")
    (pages / "man1" / "data.1").write_bytes(b"\0" * 500)
    (licences / "FREE").write_text("Everyone may do what they like. " * 20)
    monkeypatch.setattr(system_texts, "_PAGES", pages)
    monkeypatch.setattr(system_texts, "_LICENCES", licences)
    sizes = write_system_texts(tmp_path / "out")
    (line,) = (tmp_path / "out" / "pages.jsonl").read_text().splitlines()
    written = json.loads(line)
    assert written["source"] == "manual page: same.1", "the first of two alike"
    assert written["text"].startswith("# NAME\n\ntool - works")
    assert sizes["pages"] == len(written["text"])
    texts = (tmp_path / "out" / "licences.jsonl").read_text().splitlines()
    assert json.loads(texts[0])["source"] == "licence: FREE"


def test_a_system_without_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(system_texts, "_PAGES", tmp_path / "none")
    monkeypatch.setattr(system_texts, "_LICENCES", tmp_path / "none")
    monkeypatch.setattr(system_texts.metadata, "distributions", list)
    assert write_system_texts(tmp_path / "out") == {}
    assert not (tmp_path / "out").exists()
