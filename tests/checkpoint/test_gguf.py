"""The GGUF reader: agreement with the gguf package, and refusal of what cannot be."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFEndian, GGUFReader, GGUFWriter

from everlong.checkpoint import gguf
from everlong.checkpoint.gguf import GGUFFile
from everlong.errors import CheckpointError, UnsupportedError
from tests.checkpoint.samples import smollm2_path, tiny_config, tiny_gguf

# Value types of the metadata.
U8, BOOL, STRING, ARRAY, U32 = 0, 7, 8, 9, 4


def string(text: str | bytes) -> bytes:
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<Q", len(data)) + data


def entry(key: str, type_: int, value: bytes) -> bytes:
    return string(key) + struct.pack("<I", type_) + value


def array(item_type: int, count: int, items: bytes) -> bytes:
    return struct.pack("<IQ", item_type, count) + items


def tensor(name: str, sizes: list[int], type_: int = 0, offset: int = 0) -> bytes:
    head = string(name) + struct.pack("<I", len(sizes))
    return head + struct.pack(f"<{len(sizes)}QIQ", *sizes, type_, offset)


def gguf_bytes(
    entries: list[bytes] | None = None,
    tensors: list[bytes] | None = None,
    data: bytes = b"",
    *,
    magic: bytes = b"GGUF",
    version: int = 3,
    entry_count: int | None = None,
    tensor_count: int | None = None,
) -> bytes:
    entries, tensors = entries or [], tensors or []
    head = magic + struct.pack(
        "<IQQ",
        version,
        len(tensors) if tensor_count is None else tensor_count,
        len(entries) if entry_count is None else entry_count,
    )
    body = head + b"".join(entries) + b"".join(tensors)
    return body + b"\0" * (-len(body) % 32) + data


def opened(tmp_path: Path, content: bytes) -> GGUFFile:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    return GGUFFile(path)


def test_metadata_of_every_type_is_what_the_package_wrote(tmp_path: Path) -> None:
    path = tmp_path / "all.gguf"
    writer = GGUFWriter(path, "llama")
    values: dict[str, Any] = {
        "u8": 200, "i8": -100, "u16": 60_000, "i16": -30_000, "u32": 4_000_000_000,
        "i32": -2_000_000_000, "u64": 2**63 + 1, "i64": -(2**62), "f32": 0.5, "f64": 0.1,
        "yes": True, "no": False, "text": "héllo", "none": "",
        "ints": [1, -2, 3], "floats": [0.5, 0.25], "flags": [True, False],
        "texts": ["a", "", "日本"],
    }  # fmt: skip
    add: dict[str, Callable[[str, Any], None]] = {
        "u8": writer.add_uint8, "i8": writer.add_int8, "u16": writer.add_uint16,
        "i16": writer.add_int16, "u32": writer.add_uint32, "i32": writer.add_int32,
        "u64": writer.add_uint64, "i64": writer.add_int64, "f32": writer.add_float32,
        "f64": writer.add_float64, "yes": writer.add_bool, "no": writer.add_bool,
        "text": writer.add_string, "none": writer.add_string,
    }  # fmt: skip
    for key, value in values.items():
        add.get(key, writer.add_array)(key, value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    metadata = GGUFFile(path).metadata
    for key, value in values.items():
        if key != "none":  # the package does not write empty strings
            assert metadata[key] == value, key
            assert type(metadata[key]) is type(value), key
    assert metadata["general.architecture"] == "llama"
    assert "absent" not in metadata


@pytest.mark.parametrize("version", [2, 3])
def test_nested_arrays_and_both_versions(tmp_path: Path, version: int) -> None:
    inner = array(U8, 2, b"\1\2") + array(U8, 1, b"\3")
    texts = array(ARRAY, 1, array(STRING, 2, string("a") + string("b")))
    content = gguf_bytes(
        [entry("n", ARRAY, array(ARRAY, 2, inner)), entry("t", ARRAY, texts)], version=version
    )
    metadata = opened(tmp_path, content).metadata
    assert metadata["n"] == [[1, 2], [3]]
    assert metadata["t"] == [["a", "b"]]


def test_tensors_lie_where_the_package_says(tmp_path: Path) -> None:
    path = tiny_gguf(tmp_path / "m.gguf", tiny_config("qwen3"), "Q4_K")
    ours, theirs = GGUFFile(path), GGUFReader(path)
    assert set(ours.tensors) == {t.name for t in theirs.tensors}
    for reference in theirs.tensors:
        found = ours.tensors[reference.name]
        assert found.shape == tuple(int(n) for n in reversed(reference.shape))
        assert found.type == reference.tensor_type.name
        assert np.array_equal(
            ours.raw(reference.name).numpy(), reference.data.view(np.uint8).ravel()
        )


def test_another_alignment_is_followed(tmp_path: Path) -> None:
    path = tmp_path / "aligned.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_custom_alignment(256)
    writer.add_tensor("a", np.arange(3, dtype=np.float32))
    writer.add_tensor("b", np.arange(5, dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    file = GGUFFile(path)
    assert file.tensors["b"].offset % 256 == 0
    assert file.raw("b").numpy().view(np.float32).tolist() == [0, 1, 2, 3, 4]


def test_the_real_vocabulary_is_the_packages() -> None:
    path = smollm2_path()
    ours, theirs = GGUFFile(path).metadata, GGUFReader(path).fields
    for key in ("tokenizer.ggml.tokens", "tokenizer.ggml.merges", "tokenizer.ggml.token_type"):
        assert ours[key] == theirs[key].contents()
    assert set(ours) == {key for key in theirs if not key.startswith("GGUF.")}


ONE = [entry("k", U8, b"\1")]
TRILLION = 10**12

MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "magic alone": (b"GG", "2 of 2|expected at offset 0 of 2"),
    "another magic": (gguf_bytes(magic=b"GGML"), "not a GGUF file"),
    "version 1": (gguf_bytes(version=1), "version 1"),
    "version 99": (gguf_bytes(version=99), "version 99"),
    "big endian": (gguf_bytes(version=3 << 24), "big-endian"),
    "trillion tensors": (gguf_bytes(tensor_count=TRILLION), f"claims {TRILLION} tensors"),
    "trillion entries": (gguf_bytes(entry_count=TRILLION), f"claims {TRILLION} metadata"),
    "all bits set": (gguf_bytes(entry_count=2**64 - 1, tensor_count=2**64 - 1), "claims"),
    "truncated entry": (gguf_bytes(ONE)[:30], "claims 1 metadata"),
    "key of a trillion bytes": (
        gguf_bytes([struct.pack("<Q", TRILLION) + b"k" * 32]),
        "a metadata key claims 1000000000000 bytes",
    ),
    "string of 2**63 bytes": (
        gguf_bytes([entry("k", STRING, struct.pack("<Q", 2**63))]),
        "'k' claims 9223372036854775808 bytes",
    ),
    "string past the end": (
        gguf_bytes([entry("k", STRING, struct.pack("<Q", 5000))]), "5000 bytes expected",
    ),
    "key not UTF-8": (
        gguf_bytes([string(b"\xff\xfe") + struct.pack("<I", U8) + b"\1"]), "not UTF-8",
    ),
    "key twice": (gguf_bytes(ONE * 2), "'k' appears twice"),
    "unknown value type": (gguf_bytes([entry("k", 77, b"\0" * 8)]), "unknown value type 77"),
    "boolean of 2": (gguf_bytes([entry("k", BOOL, b"\2")]), "boolean with the value 2"),
    "array of unknown type": (
        gguf_bytes([entry("k", ARRAY, array(77, 1, b"\0" * 8))]), "unknown value type 77",
    ),
    "array of a trillion": (
        gguf_bytes([entry("k", ARRAY, array(U32, TRILLION, b"\0" * 64))]),
        f"claims {TRILLION} items",
    ),
    "strings of a trillion": (
        gguf_bytes([entry("k", ARRAY, array(STRING, TRILLION, b"\0" * 64))]),
        f"claims {TRILLION} items",
    ),
    "strings past the end": (
        gguf_bytes([entry("k", ARRAY, array(STRING, 3, string("a") + b"\xff" * 40))]), "'k'",
    ),
    "last string past the end": (
        gguf_bytes([entry("k", ARRAY, array(STRING, 1, struct.pack("<Q", 2**62)))]),
        "reaches past the end",
    ),
    "arrays within arrays": (
        gguf_bytes([entry("k", ARRAY, array(ARRAY, 1, b"") * 6 + array(U8, 0, b""))]),
        "nests arrays deeper than 4",
    ),
    "arrays within arrays, a trillion": (
        gguf_bytes([entry("k", ARRAY, array(ARRAY, TRILLION, b"\0" * 64))]), "claims",
    ),
    "alignment 0": (
        gguf_bytes([entry("general.alignment", U32, struct.pack("<I", 0))]), "alignment",
    ),
    "alignment 33": (
        gguf_bytes([entry("general.alignment", U32, struct.pack("<I", 33))]), "alignment",
    ),
    "alignment is text": (gguf_bytes([entry("general.alignment", STRING, string("32"))]), "'32'"),
    "one part of two": (gguf_bytes([entry("split.count", U8, b"\2")]), "--merge"),
    "no dimensions": (gguf_bytes(None, [tensor("a", [])], b"\0" * 64), "0 dimensions"),
    "five dimensions": (gguf_bytes(None, [tensor("a", [1] * 5)], b"\0" * 64), "5 dimensions"),
    "a dimension of 0": (gguf_bytes(None, [tensor("a", [4, 0])], b"\0" * 64), "rows of 4"),
    "dimensions of 2**63": (
        gguf_bytes(None, [tensor("a", [2**63, 2**63])], b"\0" * 64), "ends at offset",
    ),
    "unknown tensor type": (gguf_bytes(None, [tensor("a", [4], 999)], b"\0" * 64), "number 999"),
    "tensor type not read": (gguf_bytes(None, [tensor("a", [256], 23)], b"\0" * 999), "IQ4_XS"),
    "part of a block": (gguf_bytes(None, [tensor("a", [33], 2)], b"\0" * 64), "multiple of 32"),
    "data missing": (gguf_bytes(None, [tensor("a", [64])], b"\0" * 64), "ends at offset"),
    "misaligned": (gguf_bytes(None, [tensor("a", [4], 0, 4)], b"\0" * 64), "no multiple of 32"),
    "offset of 2**64 - 32": (
        gguf_bytes(None, [tensor("a", [4], 0, 2**64 - 32)], b"\0" * 64), "ends at offset",
    ),
    "overlap": (
        gguf_bytes(None, [tensor("a", [16]), tensor("b", [16], 0, 32)], b"\0" * 128),
        "'b' overlaps",
    ),
    "tensor twice": (
        gguf_bytes(None, [tensor("a", [8]), tensor("a", [8], 0, 32)], b"\0" * 64),
        "'a' appears twice",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_one_clear_error(tmp_path: Path, name: str) -> None:
    content, message = MALFORMED[name]
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message) as caught:
            opened(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_lie_in_a_large_file_is_found_without_reading_it(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.write(gguf_bytes([entry("k", ARRAY, array(STRING, TRILLION, b""))]))
        file.truncate(1 << 36)  # 64 GiB of holes
    started = time.process_time()
    with pytest.raises(CheckpointError, match="claims"):
        GGUFFile(path)
    assert time.process_time() - started < 10  # not the minutes that stepping over would take


def test_limits_hold_where_the_bytes_exist(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    with path.open("wb") as file:
        file.write(gguf_bytes([entry("k", ARRAY, array(STRING, gguf.MAX_ARRAY_ITEMS + 1, b""))]))
        file.truncate(1 << 30)
    with pytest.raises(UnsupportedError, match="more than 4194304 items"):
        GGUFFile(path)
    with path.open("wb") as file:
        file.write(gguf_bytes(tensor_count=gguf.MAX_TENSORS + 1))
        file.truncate(1 << 30)
    with pytest.raises(UnsupportedError, match="65537 tensors"):
        GGUFFile(path)


def test_text_that_is_not_utf8_is_found_when_it_is_read(tmp_path: Path) -> None:
    content = gguf_bytes([entry("k", ARRAY, array(STRING, 2, string("a") + string(b"\xff")))])
    metadata = opened(tmp_path, content).metadata
    with pytest.raises(CheckpointError, match="item 1 of 'k' is not UTF-8"):
        metadata["k"]


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not a regular file"):
        GGUFFile(tmp_path)
    with pytest.raises(CheckpointError, match="cannot be opened: No such file"):
        GGUFFile(tmp_path / "absent.gguf")
    os.mkfifo(tmp_path / "pipe.gguf")
    with pytest.raises(CheckpointError, match="not a regular file"):
        GGUFFile(tmp_path / "pipe.gguf")


def test_big_endian_files_of_the_package_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    writer = GGUFWriter(path, "llama", endianess=GGUFEndian.BIG)
    writer.add_tensor("a", np.zeros(4, np.float32), raw_dtype=GGMLQuantizationType.F32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with pytest.raises(UnsupportedError, match="big-endian"):
        GGUFFile(path)
