"""What the fingerprint depends on, and when files are hashed again."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from everlong.checkpoint import fingerprint as module
from everlong.checkpoint import open_checkpoint
from everlong.checkpoint.export import export
from everlong.checkpoint.fingerprint import fingerprint, weights_digest
from everlong.model.config import RopeConfig
from tests.checkpoint.samples import tiny_config, tiny_gguf


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache folder of the test's own."""
    monkeypatch.setenv("EVERLONG_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """The files whose content was hashed, in order."""
    files: list[Path] = []
    content_digest = module._content_digest

    def recorded(file: module.MappedFile) -> bytes:
        files.append(file.path)
        return content_digest(file)

    monkeypatch.setattr(module, "_content_digest", recorded)
    return files


def settle(path: Path) -> None:
    """Wait until a change of ``path`` would show in its times."""
    while time.time_ns() - path.stat().st_ctime_ns <= 2 * module._SETTLED_NS:
        time.sleep(0.02)


def of(path: Path, weights: str = "auto", kv_dtype: str = "bf16") -> bytes:
    checkpoint = open_checkpoint(path)
    return fingerprint(checkpoint, checkpoint.tokenizer(), weights=weights, kv_dtype=kv_dtype)


def test_it_is_the_same_for_the_same_and_differs_in_every_part(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config())
    original = of(path)
    assert len(original) == 32
    copy = tmp_path / "copy.gguf"
    copy.write_bytes(path.read_bytes())
    assert of(copy) == original
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    (tmp_path / "flipped.gguf").write_bytes(content)
    template = {"tokenizer.chat_template": "{{ messages[0]['content'] }}"}
    others = [
        of(path, weights="int4"),
        of(path, kv_dtype="float32"),
        of(tmp_path / "flipped.gguf"),
        of(tiny_gguf(tmp_path / "template.gguf", tiny_config(), entries=template)),
        of(tiny_gguf(tmp_path / "rope.gguf", tiny_config(rope=RopeConfig(theta=9e3)))),
    ]
    assert len({original, *others}) == 6


def test_parts_cannot_run_into_each_other(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config())
    assert of(path, weights="ab", kv_dtype="c") != of(path, weights="a", kv_dtype="bc")


def test_a_file_is_hashed_once(tmp_path: Path, hashed: list[Path], home: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config())
    settle(path)
    first = weights_digest(open_checkpoint(path))
    assert weights_digest(open_checkpoint(path)) == first
    assert hashed == [path]
    if os.name == "posix":
        assert (home / "digests.json").stat().st_mode & 0o777 == 0o600


def test_a_changed_file_is_hashed_again_even_if_its_times_are_set_back(
    tmp_path: Path, hashed: list[Path]
) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config())
    settle(path)
    first = weights_digest(open_checkpoint(path))
    before = path.stat()
    with path.open("r+b") as file:
        file.seek(-100, os.SEEK_END)
        file.write(b"\xa5")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_mtime_ns == before.st_mtime_ns
    assert weights_digest(open_checkpoint(path)) != first
    assert hashed == [path, path]


def test_the_digest_of_a_replaced_file_is_not_kept_for_the_new_one(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config())
    opened = open_checkpoint(path)
    other = tiny_gguf(tmp_path / "other.gguf", tiny_config(), "Q8_0")
    os.replace(other, path)
    settle(path)
    old = weights_digest(opened)
    assert weights_digest(open_checkpoint(path)) != old


@pytest.mark.parametrize("content", ["", "[]", "{", '{"a": 1}', '{"a": "zz"}'])
def test_an_unusable_cache_only_costs_time(
    tmp_path: Path, home: Path, hashed: list[Path], content: str
) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config())
    home.mkdir()
    (home / "digests.json").write_text(content)
    settle(path)
    first = weights_digest(open_checkpoint(path))
    assert weights_digest(open_checkpoint(path)) == first
    assert len(hashed) == 1
    assert list(json.loads((home / "digests.json").read_text()).values())


def test_a_cache_that_cannot_be_written_only_costs_time(tmp_path: Path, home: Path) -> None:
    home.write_text("a file where the folder should be")
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config())
    settle(path)
    assert weights_digest(open_checkpoint(path)) == weights_digest(open_checkpoint(path))


def test_all_shards_count(tmp_path: Path) -> None:
    source = open_checkpoint(tiny_gguf(tmp_path / "m.gguf", tiny_config()))
    export(source, tmp_path / "whole", dtype="float32")
    export(source, tmp_path / "shards", dtype="float32", max_shard_bytes=400_000)
    sharded = open_checkpoint(tmp_path / "shards")
    assert len(sharded.files) > 3
    before = weights_digest(sharded)
    last = sharded.files[-1].path
    content = bytearray(last.read_bytes())
    content[-1] ^= 1
    last.write_bytes(content)
    assert weights_digest(open_checkpoint(tmp_path / "shards")) != before
