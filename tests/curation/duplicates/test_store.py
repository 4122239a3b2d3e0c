"""Stores: whole runs or none, of one step with one set of parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from everlong.curation.duplicates.store import MANIFEST, DuplicateStore
from everlong.errors import ConfigError, DataError


def opened(folder: Path, words: int = 5) -> DuplicateStore:
    return DuplicateStore(folder, "near_duplicates", {"words": words, "case": True})


def add(store: DuplicateStore, run: str, content: bytes) -> None:
    with store.adding(run, len(content), ["one", "two"]) as (one, two):
        one.write(content)
        two.write(content * 2)


def read(store: DuplicateStore, run: str = "next") -> dict[str, bytes]:
    return {one.run: store.path(one, "two").read_bytes() for one in store.runs(store.look(run))}


def test_runs_are_read_by_whoever_opens_the_store_later(tmp_path: Path) -> None:
    store = opened(tmp_path / "store")
    assert store.look("next") == []
    add(store, "first", b"a")
    add(store, "second", b"")
    assert read(opened(tmp_path / "store")) == {"first": b"aa", "second": b""}
    found = opened(tmp_path / "store").runs(["second", "first"])
    assert [one.entries for one in found] == [0, 1]
    with pytest.raises(DataError, match="does not have all of 2 runs that were seen in it"):
        store.runs(["first", "third"])


def test_a_run_sees_neither_itself_nor_what_came_later(tmp_path: Path) -> None:
    store = opened(tmp_path)
    for run in ("first", "second", "third"):
        add(store, run, run.encode())
    assert [*read(store, "second")] == ["first"]
    assert [*read(store, "first")] == []
    add(store, "second", b"again")
    assert read(opened(tmp_path)) == {
        "first": b"first" * 2,
        "second": b"again" * 2,
        "third": b"third" * 2,
    }
    assert len([path for path in tmp_path.iterdir() if path.suffix == ".one"]) == 3


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    one, other = opened(tmp_path), opened(tmp_path)
    add(one, "first", b"a")
    add(other, "second", b"b")
    assert [*read(one)] == [*read(other)] == ["first", "second"]


def test_a_run_that_is_done_again_sees_what_it_saw(tmp_path: Path) -> None:
    """Whatever was complete, or went on, meanwhile."""
    store = opened(tmp_path)
    add(store, "first", b"a")
    for run in ("slow", "fast"):  # both begin, and neither sees the other one
        assert [*read(store, run)] == ["first"]
    add(store, "fast", b"b")
    add(opened(tmp_path), "slow", b"c")
    assert [*read(store)] == ["first", "fast", "slow"]
    for run in ("fast", "slow"):
        assert [*read(opened(tmp_path), run)] == ["first"]
        add(store, run, b"again")
        assert [*read(opened(tmp_path), run)] == ["first"]


def test_a_run_that_never_was_complete_sees_what_is_there_when_it_begins_anew(
    tmp_path: Path,
) -> None:
    store = opened(tmp_path)
    assert [*read(store, "late")] == []
    add(store, "first", b"a")
    assert [*read(store, "late")] == ["first"]
    add(store, "second", b"b")
    add(store, "late", b"c")
    assert [*read(store, "late")] == ["first"]


def test_a_run_that_stops_leaves_what_was_there(tmp_path: Path) -> None:
    store = opened(tmp_path)
    add(store, "first", b"a")
    before = sorted(tmp_path.iterdir())

    def stops(run: str) -> None:
        with store.adding(run, 1, ["one", "two"]) as (one, _):
            one.write(b"half")
            raise KeyboardInterrupt

    for run in ("first", "second"):
        with pytest.raises(KeyboardInterrupt):
            stops(run)
    assert read(opened(tmp_path)) == {"first": b"aa"}
    assert sorted(tmp_path.iterdir()) == before


def test_files_without_a_manifest_are_in_nobodys_way(tmp_path: Path) -> None:
    (tmp_path / "00000.one").write_bytes(b"of a run that was killed")
    add(opened(tmp_path), "first", b"a")
    assert read(opened(tmp_path)) == {"first": b"aa"}


def test_other_numbers_are_refused(tmp_path: Path) -> None:
    add(opened(tmp_path), "first", b"a")
    with pytest.raises(ConfigError, match="made with words 5, not 7; set that, or name another"):
        opened(tmp_path, words=7)
    with pytest.raises(ConfigError, match="store of the step near_duplicates, not of exact"):
        DuplicateStore(tmp_path, "exact_duplicates", {"words": 5, "case": True})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1}', b"\xff", b"null"])
def test_a_damaged_manifest_is_told(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST).write_bytes(content)
    with pytest.raises(DataError, match=MANIFEST):
        opened(tmp_path)


def test_another_format_is_told(tmp_path: Path) -> None:
    add(opened(tmp_path), "first", b"a")
    path = tmp_path / MANIFEST
    path.write_text(path.read_text().replace('"format": 2', '"format": 1'))
    with pytest.raises(DataError, match="format 1, and this version reads 2; begin a new store"):
        opened(tmp_path)


def test_damaged_files_are_told(tmp_path: Path) -> None:
    add(opened(tmp_path), "first", b"abc")
    (tmp_path / "00000.two").write_bytes(b"abc")
    with pytest.raises(DataError, match=r"has 3 bytes, and store\.json says 6"):
        read(opened(tmp_path))
    (tmp_path / "00000.two").unlink()
    with pytest.raises(DataError, match="is missing"):
        read(opened(tmp_path))
