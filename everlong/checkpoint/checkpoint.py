"""A model on disk, whichever format it has: architecture, tensors, tokenizer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from everlong.checkpoint.fields import Fields
from everlong.checkpoint.gguf import GGUFFile
from everlong.checkpoint.gguf_config import ROPE_FACTORS, config_from_gguf
from everlong.checkpoint.gguf_types import FORMAT_BY_NAME, FloatFormat
from everlong.checkpoint.hf_config import config_from_json
from everlong.checkpoint.json_files import read_json
from everlong.checkpoint.mapping import MappedFile
from everlong.checkpoint.names import (
    check_tensors,
    expected_tensors,
    gguf_name,
    interleaved_heads,
    uninterleave,
)
from everlong.checkpoint.safetensors import SafetensorsTensor, open_folder
from everlong.checkpoint.stored import StoredTensor
from everlong.errors import CheckpointError, UnsupportedError
from everlong.model.config import ModelConfig
from everlong.tokenizer import Tokenizer, load_tokenizer, tokenizer_from_gguf


@dataclass(frozen=True)
class GenerationDefaults:
    """How the model's makers sample from it; None where they say nothing."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True)
class Checkpoint:
    """An open checkpoint. Tensors are mapped and read when they are asked for."""

    path: Path
    format: Literal["huggingface", "gguf"]
    config: ModelConfig
    tensors: Mapping[str, StoredTensor]
    """Exactly those that ``config`` implies, by their Hugging Face names, in order of use."""
    generation: GenerationDefaults
    files: tuple[MappedFile, ...]
    """What holds the tensors."""
    metadata: Mapping[str, Any]
    """Of a GGUF file; empty for a folder."""

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors as stored."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def tokenizer(self) -> Tokenizer:
        """Read the tokenizer.

        Raises:
            CheckpointError: it is missing or damaged, or has more tokens than the embedding.
            UnsupportedError: it is of a kind that is not implemented.
        """
        if self.format == "huggingface":
            tokenizer = load_tokenizer(self.path)
        else:
            try:
                tokenizer = tokenizer_from_gguf(self.metadata)
            except CheckpointError as error:  # which knows no file
                raise type(error)(f"{self.path}: {error}") from None
        if tokenizer.vocab_size > self.config.vocab_size:
            raise CheckpointError(
                f"{self.path}: the tokenizer has {tokenizer.vocab_size} tokens, "
                f"but the embedding has only {self.config.vocab_size} rows"
            )
        return tokenizer

    def release(self) -> None:
        """Give back the memory of what was read so far; it is read again when needed."""
        for file in self.files:
            file.release()


def open_checkpoint(path: Path) -> Checkpoint:
    """Open a model: a folder in the Hugging Face layout, or a GGUF file.

    Only headers and configurations are read. They are checked against each other and against
    the bytes that exist, so that a checkpoint that opens has all its tensors in their shapes.

    Args:
        path: the folder (a folder with nothing but one GGUF file stands for the file), or the
            file.

    Raises:
        CheckpointError: it is missing or damaged; see its subclasses.
        UnsupportedError: an architecture, a number format or a layout that is not implemented.
    """
    if not path.exists():
        raise CheckpointError(f"{path} does not exist")
    if not path.is_dir():
        return _open_gguf(path)
    if (path / "config.json").exists():
        return _open_folder(path)
    files = sorted(path.glob("*.gguf"))
    if len(files) == 1:
        return _open_gguf(files[0])
    if files:
        raise CheckpointError(f"{path} holds several GGUF files; name one, such as {files[0]}")
    if (path / "adapter_config.json").exists():
        raise UnsupportedError(f"{path} is an adapter; give the model that it was made for")
    raise CheckpointError(f"{path} is no model folder: it has neither config.json nor a GGUF file")


def _open_gguf(path: Path) -> Checkpoint:
    file = GGUFFile(path)
    config = config_from_gguf(file)
    expected = expected_tensors(config)
    names = {gguf_name(name): name for name in expected}
    check_tensors(
        {stored: expected[name] for stored, name in names.items()},
        {name: t.shape for name, t in file.tensors.items() if name != ROPE_FACTORS},
        str(path),
    )
    tensors = {}
    for stored, name in names.items():
        tensor = file.tensors[stored]
        heads = interleaved_heads(name, config)
        if heads and len(tensor.shape) == 1 and not _is_float(tensor.type):
            raise UnsupportedError(f"{path}: the vector {stored} has the type {tensor.type}")
        order = uninterleave(tensor.shape[0], heads) if heads else None
        tensors[name] = StoredTensor(name, tensor.shape, tensor.type, file.raw(stored), order)
    sampling = Fields(file.metadata, str(path), "general.sampling.")
    generation = _generation(sampling, "temp", "penalty_repeat")
    return Checkpoint(path, "gguf", config, tensors, generation, (file.file,), file.metadata)


def _open_folder(path: Path) -> Checkpoint:
    config = config_from_json(read_json(path / "config.json"), str(path / "config.json"))
    files, stored = open_folder(path)
    if "embed_tokens.weight" in stored:  # saved without the head, and so without its prefix
        stored = {f"model.{name}": tensor for name, tensor in stored.items()}
    if config.tied_head:
        stored.pop("lm_head.weight", None)  # a copy of the embedding
    expected = expected_tensors(config)
    check_tensors(expected, {name: t.shape for name, t in stored.items()}, str(path))
    tensors = {name: _stored(name, stored[name], path) for name in expected}
    generation = GenerationDefaults()
    if (path / "generation_config.json").exists():
        values = read_json(path / "generation_config.json")
        fields = Fields(values, str(path / "generation_config.json"))
        generation = _generation(fields, "temperature", "repetition_penalty")
    mapped = tuple(file.file for file in files)
    return Checkpoint(path, "huggingface", config, tensors, generation, mapped, {})


def _stored(name: str, tensor: SafetensorsTensor, path: Path) -> StoredTensor:
    if not _is_float(tensor.type):
        raise UnsupportedError(
            f"{path}: the tensor {name} has the type {tensor.type}; supported: F32, F16, BF16"
        )
    return StoredTensor(name, tensor.shape, tensor.type, tensor.raw)


def _is_float(type_: str) -> bool:
    return isinstance(FORMAT_BY_NAME.get(type_), FloatFormat)


def _generation(fields: Fields, temperature: str, repetition: str) -> GenerationDefaults:
    """Sampling defaults; two of their names differ between the formats."""

    def number(name: str) -> float | None:
        return fields.number(name) if fields.has(name) else None

    has_top_k = fields.has("top_k")
    return GenerationDefaults(
        temperature=number(temperature),
        top_k=fields.integer("top_k", least=-1, most=1 << 31) if has_top_k else None,
        top_p=number("top_p"),
        min_p=number("min_p"),
        repetition_penalty=number(repetition),
    )
