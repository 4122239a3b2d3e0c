"""The committed build of the page belongs to the committed source, and needs no other host."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
WEB = ROOT / "web"
STATIC = ROOT / "everlong" / "serving" / "static"
MOST_BYTES = 600_000

# The list and the digest are those of web/build-record.ts; keep the two in step.
SOURCES = [
    "build-record.ts",
    "index.html",
    "package-lock.json",
    "package.json",
    "public",
    "src",
    "tsconfig.json",
    "vite.config.ts",
]


def files_under(root: Path, *names: str) -> list[str]:
    paths = [root / name for name in names]
    files = [f for p in paths for f in ([p] if p.is_file() else p.rglob("*")) if f.is_file()]
    return sorted(f.relative_to(root).as_posix() for f in files)


def digest(root: Path, files: list[str]) -> str:
    """SHA-256 over each file's path, length and bytes."""
    total = hashlib.sha256()
    for file in files:
        content = (root / file).read_bytes()
        total.update(f"{file}\0{len(content)}\0".encode() + content)
    return total.hexdigest()


@pytest.fixture(scope="module")
def record() -> dict[str, object]:
    return json.loads((STATIC / "build.json").read_text())


@pytest.fixture(scope="module")
def built() -> list[str]:
    return [file for file in files_under(STATIC, ".") if file != "build.json"]


@pytest.mark.skipif(not WEB.is_dir(), reason="the page's source is only in the repository")
def test_the_build_is_of_this_source(record):
    source = digest(WEB, files_under(WEB, *SOURCES))
    assert source == record["source"], "the page's source changed: run `npm run build` in web/"


def test_the_build_was_not_edited(record, built):
    assert digest(STATIC, built) == record["output"], "run `npm run build` in web/"


def test_the_build_is_small(built):
    assert sum((STATIC / file).stat().st_size for file in built) < MOST_BYTES


def test_the_page_loads_its_own_files_only(built):
    page = (STATIC / "index.html").read_text()
    loaded = re.findall(r'(?:src|href)="([^"]*)"', page)
    assert loaded
    assert all(address.removeprefix("./") in built for address in loaded)
    styles = "".join((STATIC / file).read_text() for file in built if file.endswith(".css"))
    assert not re.findall(r"url\(|@import", styles)


def test_the_page_forbids_what_it_does_not_need():
    page = (STATIC / "index.html").read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy is not None
    rules = policy[1].replace("&#39;", "'").split("; ")
    assert "default-src 'none'" in rules
    assert "script-src 'self'" in rules
    assert "require-trusted-types-for 'script'" in rules
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=", page), "inline code"


@pytest.mark.skipif(not WEB.is_dir(), reason="the page's source is only in the repository")
def test_the_lock_file_names_no_registry():
    lock = json.loads((WEB / "package-lock.json").read_text())
    assert lock["packages"]
    assert not [name for name, package in lock["packages"].items() if "resolved" in package]
    assert all("integrity" in package for name, package in lock["packages"].items() if name)
