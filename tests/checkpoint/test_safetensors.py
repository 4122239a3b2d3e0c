"""Safetensors files and folders: agreement with the safetensors package, and refusal."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from everlong.checkpoint.json_files import MAX_JSON_BYTES
from everlong.checkpoint.safetensors import INDEX_NAME, SINGLE_NAME, SafetensorsFile, open_folder
from everlong.checkpoint.stored import StoredTensor
from everlong.errors import CheckpointError, UnsupportedError


def file_bytes(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    """A file with a header that is JSON, or whatever bytes are given."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def opened(tmp_path: Path, content: bytes) -> SafetensorsFile:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    return SafetensorsFile(path)


def test_tensors_of_every_kind_are_what_the_package_wrote(tmp_path: Path) -> None:
    written = {
        "f32": torch.randn(3, 5),
        "f16": torch.randn(7).half(),
        "bf16": torch.randn(2, 2, 3).bfloat16(),
        "scalar": torch.tensor(1.5),
        "empty": torch.zeros(0, 4),
        "ids": torch.arange(9),
        "flags": torch.tensor([True, False]),
    }
    save_file(written, tmp_path / "m.safetensors", metadata={"format": "pt"})
    found = SafetensorsFile(tmp_path / "m.safetensors").tensors
    assert set(found) == set(written)
    for name, expected in written.items():
        assert found[name].shape == tuple(expected.shape)
        assert found[name].raw.numel() == expected.numel() * expected.element_size()
        if expected.is_floating_point() and expected.numel():
            tensor = StoredTensor(name, found[name].shape, found[name].type, found[name].raw)
            assert torch.equal(tensor.dense(expected.dtype), expected)
    assert found["ids"].type == "I64"


def test_tensors_outlive_the_file_object_and_its_removal(tmp_path: Path) -> None:
    save_file({"w": torch.arange(1000.0)}, tmp_path / "m.safetensors")
    raw = SafetensorsFile(tmp_path / "m.safetensors").tensors["w"].raw
    (tmp_path / "m.safetensors").unlink()
    assert torch.equal(raw.view(torch.float32), torch.arange(1000.0))


def test_writing_to_a_tensor_does_not_change_the_file(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    save_file({"w": torch.ones(4)}, path)
    before = path.read_bytes()
    SafetensorsFile(path).tensors["w"].raw.zero_()
    assert path.read_bytes() == before


DEEP = b'{"a":' + b"[" * 200_000 + b"]" * 200_000 + b"}"

MALFORMED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "too short": (b"\1\0\0", "3 bytes are too few"),
    "header of a trillion bytes": (
        file_bytes({}, length=10**12), "claims a header of 1000000000000 bytes",
    ),
    "header of 2**64 - 1 bytes": (file_bytes({}, length=2**64 - 1), "claims a header"),
    "header longer than is read": (
        file_bytes(b" " * (MAX_JSON_BYTES + 1)), f"at most {MAX_JSON_BYTES}",
    ),
    "not JSON": (file_bytes(b"{]"), "not valid JSON"),
    "not UTF-8": (file_bytes(b'{"\xff": 1}'), "not valid JSON"),
    "a pickle": (file_bytes(b"\x80\x04\x95"), "not valid JSON"),
    "nested": (file_bytes(DEEP), "nested too deeply"),
    "a number of 10,000 digits": (file_bytes(b'{"a":' + b"9" * 10_000 + b"}"), "not valid JSON"),
    "NaN": (file_bytes(b'{"a": NaN}'), "NaN is not JSON"),
    "name twice": (
        file_bytes(b'{"a":%s,"a":%s}' % ((json.dumps(entry()).encode(),) * 2), b"\0" * 8),
        "a key appears twice",
    ),
    "a list": (file_bytes([1]), "not a JSON object"),
    "metadata is a list": (file_bytes({"__metadata__": [1]}), "__metadata__"),
    "entry is a number": (file_bytes({"a": 1}), "needs dtype, shape, data_offsets"),
    "entry lacks its shape": (
        file_bytes({"a": {"dtype": "F32", "data_offsets": [0, 8]}}, b"\0" * 8), "needs dtype",
    ),
    "unknown dtype": (file_bytes({"a": entry("F31")}, b"\0" * 8), "unknown dtype"),
    "dtype is a list": (file_bytes({"a": entry(["F32"])}, b"\0" * 8), "unknown dtype"),
    "dtype of GGUF": (file_bytes({"a": entry("Q4_0")}, b"\0" * 8), "unknown dtype"),
    "shape is a number": (file_bytes({"a": entry(shape=2)}, b"\0" * 8), "no valid shape"),
    "negative size": (file_bytes({"a": entry(shape=[-2])}, b"\0" * 8), "no valid shape"),
    "fractional size": (file_bytes({"a": entry(shape=[2.0])}, b"\0" * 8), "no valid shape"),
    "true for a size": (file_bytes({"a": entry(shape=[True, 2])}, b"\0" * 8), "no valid shape"),
    "a thousand axes": (file_bytes({"a": entry(shape=[1] * 1000)}, b"\0" * 8), "no valid shape"),
    "sizes of 10**18": (
        file_bytes({"a": entry(shape=[10**18] * 4)}, b"\0" * 8), "cannot take 8 bytes",
    ),
    "offsets of one": (file_bytes({"a": entry(offsets=[8])}, b"\0" * 8), "data_offsets"),
    "offsets backwards": (file_bytes({"a": entry(offsets=[8, 0])}, b"\0" * 8), "cannot take -8"),
    "shape larger than its bytes": (
        file_bytes({"a": entry(shape=[3])}, b"\0" * 8), "cannot take 8 bytes",
    ),
    "past the end": (file_bytes({"a": entry(shape=[4], offsets=[0, 16])}, b"\0" * 8), "data ends"),
    "unused bytes behind": (file_bytes({"a": entry()}, b"\0" * 9), "data ends at byte"),
    "unused bytes before": (
        file_bytes({"a": entry(offsets=[8, 16])}, b"\0" * 16), "follows unused bytes",
    ),
    "overlap": (
        file_bytes({"a": entry(), "b": entry(offsets=[4, 12])}, b"\0" * 12), "'b' overlaps",
    ),
    "the same bytes twice": (
        file_bytes({"a": entry(), "b": entry()}, b"\0" * 8), "overlaps another",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_a_malformed_file_is_one_clear_error(tmp_path: Path, name: str) -> None:
    content, message = MALFORMED[name]
    tracemalloc.start()
    try:
        with pytest.raises(CheckpointError, match=message) as caught:
            opened(tmp_path, content)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()
    assert "model.safetensors" in str(caught.value)


def write_shards(folder: Path) -> dict[str, str]:
    save_file({"a": torch.ones(2), "b": torch.zeros(3)}, folder / "x-1.safetensors")
    save_file({"c": torch.ones(4)}, folder / "x-2.safetensors")
    return {"a": "x-1.safetensors", "b": "x-1.safetensors", "c": "x-2.safetensors"}


def write_index(folder: Path, weight_map: Any) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map}))


def test_a_sharded_folder_is_one_set_of_tensors(tmp_path: Path) -> None:
    write_index(tmp_path, write_shards(tmp_path))
    files, tensors = open_folder(tmp_path)
    assert [file.path.name for file in files] == ["x-1.safetensors", "x-2.safetensors"]
    assert {name: t.shape for name, t in tensors.items()} == {"a": (2,), "b": (3,), "c": (4,)}


def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path: Path) -> None:
    right = write_shards(tmp_path)
    for weight_map, message in (
        ({**right, "d": "x-2.safetensors"}, "x-2.safetensors lacks the tensor 'd'"),
        ({k: v for k, v in right.items() if k != "b"}, "does not list"),
        ({**right, "b": "x-2.safetensors"}, "places in x-2.safetensors"),
        ({**right, "d": "x-3.safetensors"}, "x-3.safetensors cannot be opened"),
        ({"a": "../x-1.safetensors"}, "plain file name"),
        ({"a": "/etc/passwd"}, "plain file name"),
        ({"a": "pytorch_model.bin"}, "plain file name"),
        ({"a": 1}, "plain file name"),
        ({}, "no weight_map"),
        ([], "no weight_map"),
    ):
        write_index(tmp_path, weight_map)
        with pytest.raises(CheckpointError, match=message):
            open_folder(tmp_path)


def test_a_single_file_comes_before_an_index(tmp_path: Path) -> None:
    write_index(tmp_path, write_shards(tmp_path))
    save_file({"z": torch.ones(1)}, tmp_path / SINGLE_NAME)
    assert set(open_folder(tmp_path)[1]) == {"z"}


def test_pickles_are_refused_with_the_way_to_convert_them(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(UnsupportedError, match=r"pytorch_model\.bin, a pickle.*save_pretrained"):
        open_folder(tmp_path)


def test_a_folder_without_weights_says_what_is_expected(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"expected model\.safetensors"):
        open_folder(tmp_path)
    save_file({"z": torch.ones(1)}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(UnsupportedError, match="is an adapter"):
        open_folder(tmp_path)
