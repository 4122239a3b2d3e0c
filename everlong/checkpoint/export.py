"""Write a checkpoint as a folder in the Hugging Face layout."""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from everlong.checkpoint.checkpoint import Checkpoint, GenerationDefaults
from everlong.checkpoint.hf_config import config_to_json
from everlong.checkpoint.names import expected_tensors
from everlong.checkpoint.safetensors import INDEX_NAME, SINGLE_NAME
from everlong.checkpoint.stored import StoredTensor
from everlong.errors import CheckpointError, ConfigError
from everlong.files import atomic_write, refuse_used, sync_directory
from everlong.model.config import ModelConfig
from everlong.tokenizer import Tokenizer

DTYPES: dict[str, torch.dtype] = {
    "float32": torch.float32,
    "float16": torch.float16,
    "bfloat16": torch.bfloat16,
}
"""Number formats that can be written, by the name that configurations use."""

_SAFETENSORS_TYPES = {torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16"}
_HEADER_ALIGNMENT = 8

_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "chat_template.jinja",
)


@dataclass(frozen=True)
class _Exported:
    """A model as it is written."""

    config: ModelConfig
    tensors: list[StoredTensor]
    tokenizer: Tokenizer
    generation: GenerationDefaults


def export(
    checkpoint: Checkpoint,
    folder: Path,
    *,
    dtype: str = "bfloat16",
    max_shard_bytes: int = 4 << 30,
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write weights, configuration and tokenizer in the layout that transformers reads.

    The folder appears complete or not at all. One tensor at a time is in memory. The tokenizer
    of a Hugging Face folder is copied, that of a GGUF file is written out.

    Args:
        checkpoint: what to write.
        folder: where; it must not exist, or be empty.
        dtype: number format of the weights, one of ``DTYPES``; values are rounded to it once.
        max_shard_bytes: weights of more bytes are split into files of at most so many (a single
            larger tensor gets a file of its own).
        progress: called with the bytes of weights written so far and in all.

    Raises:
        ConfigError: ``dtype`` is unknown, or ``folder`` is in use.
        CheckpointError: the tokenizer cannot be read, or the folder cannot be written.
        UnsupportedError: transformers has no such architecture.
    """
    tokenizer = checkpoint.tokenizer()
    model = _Exported(
        checkpoint.config, [*checkpoint.tensors.values()], tokenizer, checkpoint.generation
    )

    def write_tokenizer(into: Path) -> None:
        _write_tokenizer(checkpoint, tokenizer, into)

    _write(model, folder, dtype, max_shard_bytes, write_tokenizer, progress)


def export_trained(
    config: ModelConfig,
    weights: Mapping[str, Tensor],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    dtype: str = "bfloat16",
) -> None:
    """Write a model that was trained here; as :func:`export`.

    Args:
        config: its shape.
        weights: by the names of :class:`everlong.model.transformer.Transformer`, float32; without a
            head that is the embedding.
        tokenizer: its own.
        folder, dtype: see :func:`export`.
    """
    tensors = []
    for name, shape in expected_tensors(config).items():
        value = weights[name.removeprefix("model.")].float().contiguous()
        raw = value.view(-1).view(torch.uint8)
        tensors.append(StoredTensor(name, shape, "F32", raw))
    model = _Exported(config, tensors, tokenizer, GenerationDefaults())
    _write(model, folder, dtype, 4 << 30, tokenizer.save, None)


def _write(
    model: _Exported,
    folder: Path,
    dtype: str,
    max_shard_bytes: int,
    write_tokenizer: Callable[[Path], None],
    progress: Callable[[int, int], None] | None,
) -> None:
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown; allowed: {', '.join(DTYPES)}")
    if max_shard_bytes < 1:
        raise ConfigError(f"max_shard_bytes must be positive, not {max_shard_bytes}")
    refuse_used(folder)
    config = config_to_json(model.config, dtype) | _token_ids(model.tokenizer)
    partial = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}.partial")
    try:
        partial.mkdir(parents=True)
        _write_weights(model.tensors, partial, DTYPES[dtype], max_shard_bytes, progress)
        _write_json(partial / "config.json", config)
        _write_json(partial / "generation_config.json", _generation_json(model))
        write_tokenizer(partial)
        sync_directory(partial)
        if folder.exists():
            folder.rmdir()
        os.rename(partial, folder)
        sync_directory(folder.parent)
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _write_weights(
    tensors: list[StoredTensor],
    folder: Path,
    dtype: torch.dtype,
    max_shard_bytes: int,
    progress: Callable[[int, int], None] | None,
) -> None:
    shards = _shards(tensors, dtype, max_shard_bytes)
    total = sum(_bytes_as(tensor, dtype) for shard in shards for tensor in shard)
    done = 0
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, start=1):
        name = SINGLE_NAME
        if len(shards) > 1:
            name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        with (folder / name).open("xb") as file:
            file.write(_header(shard, dtype))
            for tensor in shard:
                _write_tensor(file, tensor, dtype)
                places[tensor.name] = name
                done += _bytes_as(tensor, dtype)
                if progress is not None:
                    progress(done, total)
            file.flush()
            os.fsync(file.fileno())
    if len(shards) > 1:
        index = {"metadata": {"total_size": total}, "weight_map": places}
        _write_json(folder / INDEX_NAME, index)


def _shards(
    tensors: list[StoredTensor], dtype: torch.dtype, max_bytes: int
) -> list[list[StoredTensor]]:
    """Split tensors, in order, into runs of at most ``max_bytes`` where a tensor allows it."""
    shards: list[list[StoredTensor]] = [[]]
    size = 0
    for tensor in tensors:
        nbytes = _bytes_as(tensor, dtype)
        if shards[-1] and size + nbytes > max_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += nbytes
    return shards


def _bytes_as(tensor: StoredTensor, dtype: torch.dtype) -> int:
    return prod(tensor.shape) * dtype.itemsize


def _header(tensors: list[StoredTensor], dtype: torch.dtype) -> bytes:
    """Length and header of a safetensors file that holds ``tensors`` in this order."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for tensor in tensors:
        start, end = end, end + _bytes_as(tensor, dtype)
        entries[tensor.name] = {
            "dtype": _SAFETENSORS_TYPES[dtype],
            "shape": list(tensor.shape),
            "data_offsets": [start, end],
        }
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % _HEADER_ALIGNMENT)
    return len(header).to_bytes(8, "little") + header


def _write_tensor(file: BinaryIO, tensor: StoredTensor, dtype: torch.dtype) -> None:
    values = tensor.dense(dtype).contiguous().view(-1).view(torch.uint8)
    file.write(values.numpy().data)


def _token_ids(tokenizer: Tokenizer) -> dict[str, Any]:
    """Begin and end of sequence as configurations write them."""
    ends = sorted(tokenizer.eos_token_ids)
    ids: dict[str, Any] = {}
    if tokenizer.bos_token_id is not None:
        ids["bos_token_id"] = tokenizer.bos_token_id
    if ends:
        ids["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    return ids


def _generation_json(model: _Exported) -> dict[str, Any]:
    given = {k: v for k, v in asdict(model.generation).items() if v is not None}
    if given.get("temperature", 0) > 0:
        given["do_sample"] = True  # else transformers warns that the others have no effect
    return {**_token_ids(model.tokenizer), **given}


def _write_tokenizer(checkpoint: Checkpoint, tokenizer: Tokenizer, folder: Path) -> None:
    if checkpoint.format == "gguf":
        tokenizer.save(folder)
        return
    for name in _TOKENIZER_FILES:
        if (checkpoint.path / name).is_file():
            atomic_write(folder / name, (checkpoint.path / name).read_bytes())


def _write_json(path: Path, values: dict[str, Any]) -> None:
    atomic_write(path, (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode())
