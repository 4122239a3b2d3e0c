"""Folders of sentence embedders, in the layout of the sentence-transformers library.

``modules.json`` lists what is done to a text: an encoder of the BERT family (``config.json``,
``model.safetensors``, ``tokenizer.json``), a pooling (``1_Pooling/config.json``), and perhaps a
normalisation. Some are trained with words before queries or documents, which
``config_sentence_transformers.json`` names.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from everlong.checkpoint.fields import MAX_LAYERS, MAX_WIDTH, Fields, shown
from everlong.checkpoint.fingerprint import files_digest
from everlong.checkpoint.gguf_types import FORMAT_BY_NAME, FloatFormat
from everlong.checkpoint.json_files import parse_json, read_json
from everlong.checkpoint.names import check_tensors
from everlong.checkpoint.safetensors import SafetensorsTensor, open_folder
from everlong.checkpoint.stored import StoredTensor
from everlong.errors import CheckpointError, ConfigError, UnsupportedError
from everlong.model.sentence_encoder import (
    EncoderConfig,
    Pooling,
    SentenceEncoder,
    assemble_encoder,
    encoder_names,
    fastest_dtype,
)
from everlong.tokenizer.sentence_tokenizer import SentenceTokenizer

_MOST_MODULES_BYTES = 1 << 20
_MODULES = "sentence_transformers.models."
_POOLINGS: dict[str, Pooling] = {
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
}


@dataclass(frozen=True)
class SentenceFolder:
    """A sentence embedder, ready to run."""

    path: Path
    encoder: SentenceEncoder
    tokenizer: SentenceTokenizer
    query_prompt: str
    """Put before a text that is looked for."""
    document_prompt: str
    """Put before a text that is found."""
    fingerprint: bytes
    """Of everything that its vectors depend on, 32 bytes."""


def open_sentence_folder(path: Path, dtype: torch.dtype | None = None) -> SentenceFolder:
    """Load a sentence embedder.

    Args:
        path: the folder.
        dtype: of its products; None: the fastest here.

    Raises:
        CheckpointError: a file is missing, damaged, or contradicts another.
        UnsupportedError: an architecture or a module that is not implemented.
    """
    if not path.is_dir():
        raise CheckpointError(f"{path} is no folder of a sentence embedder")
    pooling_folder = _pooling_folder(path)
    values = read_json(path / "config.json")
    pooling = _pooling(path / pooling_folder / "config.json")
    config = _config(values, str(path / "config.json"), pooling)
    window = _window(path, config)
    tokenizer = SentenceTokenizer(path / "tokenizer.json", window)
    if tokenizer.vocab_size > config.vocab_size:
        raise CheckpointError(
            f"{path}: the tokenizer has {tokenizer.vocab_size} tokens, "
            f"but the embedding has only {config.vocab_size} rows"
        )
    files, found = open_folder(path)
    stored = {name.removeprefix("bert."): tensor for name, tensor in found.items()}
    needed = _shapes(config)
    # What was only trained with (a pooler, a head) is not read.
    check_tensors(needed, {n: t.shape for n, t in stored.items() if n in needed}, str(path))
    dtype = dtype or fastest_dtype()
    encoder = assemble_encoder(config, lambda name: _dense(name, stored[name], path), dtype)
    query, document = _prompts(path)
    digest = hashlib.blake2b(b"everlong sentence embedder 1", digest_size=32)
    parts = [
        files_digest([file.file for file in files]),
        hashlib.blake2b((path / "tokenizer.json").read_bytes()).digest(),
        repr((config, window, query, document, dtype)).encode(),
    ]
    for part in parts:
        digest.update(len(part).to_bytes(8, "little") + part)
    for file in files:
        file.file.release()
    return SentenceFolder(path, encoder, tokenizer, query, document, digest.digest())


def _pooling_folder(path: Path) -> str:
    """Where the pooling is described, as ``modules.json`` says."""
    file = path / "modules.json"
    try:
        with file.open("rb") as opened:
            data = opened.read(_MOST_MODULES_BYTES + 1)
    except OSError as error:
        raise CheckpointError(
            f"{file} cannot be read: {error.strerror}; give a folder in the layout of the "
            "sentence-transformers library"
        ) from None
    if len(data) > _MOST_MODULES_BYTES:
        raise UnsupportedError(f"{file} is larger than {_MOST_MODULES_BYTES} bytes")
    modules = parse_json(data, str(file))
    if not isinstance(modules, list) or not all(isinstance(m, dict) for m in modules):
        raise CheckpointError(f"{file} is not a list of objects")
    kinds = [str(module.get("type")).removeprefix(_MODULES) for module in modules]
    if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
        raise UnsupportedError(
            f"{file} lists {shown(', '.join(kinds))}; supported: Transformer, Pooling, "
            "and after them Normalize or nothing"
        )
    if modules[0].get("path") != "":
        raise UnsupportedError(f"{file}: the encoder is in a folder of its own")
    folder = modules[1].get("path")
    if (
        not isinstance(folder, str)
        or set(folder) & set('/\\:\0"*?<>|')
        or folder in ("", ".", "..")
    ):
        raise CheckpointError(f"{file}: the path of the pooling must be the name of a folder")
    return folder


def _pooling(file: Path) -> Pooling:
    values = read_json(file)
    modes = [n for n, on in values.items() if n.startswith("pooling_mode_") and on is True]
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        raise UnsupportedError(
            f"{file} asks for {', '.join(modes) or 'no pooling'}; supported: one of "
            f"{', '.join(_POOLINGS)}"
        )
    return _POOLINGS[modes[0]]


def _config(values: dict[str, Any], where: str, pooling: Pooling) -> EncoderConfig:
    if values.get("model_type") != "bert":
        raise UnsupportedError(
            f"{where} has the model_type {shown(values.get('model_type'))}; supported: bert"
        )
    fields = Fields(values, where)
    for name, allowed in (("hidden_act", "gelu"), ("position_embedding_type", "absolute")):
        if fields.has(name) and values[name] != allowed:
            raise UnsupportedError(f"{where}: {name} {shown(values[name])} is not supported")
    try:
        return EncoderConfig(
            vocab_size=fields.integer("vocab_size", most=MAX_WIDTH),
            hidden_size=fields.integer("hidden_size", most=MAX_WIDTH),
            intermediate_size=fields.integer("intermediate_size", most=MAX_WIDTH),
            num_layers=fields.integer("num_hidden_layers", most=MAX_LAYERS),
            num_heads=fields.integer("num_attention_heads", most=MAX_WIDTH),
            max_position=fields.integer("max_position_embeddings", most=MAX_WIDTH),
            token_types=fields.integer("type_vocab_size", 2, most=MAX_WIDTH),
            norm_eps=fields.number("layer_norm_eps", 1e-12, above=0.0),
            pooling=pooling,
        )
    except ConfigError as error:
        raise CheckpointError(f"{where}: {error}") from None


def _window(path: Path, config: EncoderConfig) -> int:
    """Tokens of a window: what the embedder was made for, if it says so."""
    file = path / "sentence_bert_config.json"
    if not file.exists():
        return config.max_position
    return Fields(read_json(file), str(file)).integer(
        "max_seq_length", config.max_position, most=config.max_position
    )


def _prompts(path: Path) -> tuple[str, str]:
    """What goes before queries and documents."""
    file = path / "config_sentence_transformers.json"
    if not file.exists():
        return "", ""
    prompts = Fields(read_json(file), str(file)).table("prompts")
    named = Fields(prompts, f"{file}, prompts")
    return named.text("query", ""), named.text("document", named.text("passage", ""))


def _shapes(config: EncoderConfig) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that is read, by its name in the file."""
    with torch.device("meta"):
        parameters = dict(SentenceEncoder(config).named_parameters())
    return {theirs: tuple(parameters[ours].shape) for ours, theirs in encoder_names(config).items()}


def _dense(name: str, tensor: SafetensorsTensor, path: Path) -> torch.Tensor:
    if not isinstance(FORMAT_BY_NAME.get(tensor.type), FloatFormat):
        raise UnsupportedError(
            f"{path}: the tensor {name} has the type {tensor.type}; supported: F32, F16, BF16"
        )
    return StoredTensor(name, tensor.shape, tensor.type, tensor.raw).dense()
