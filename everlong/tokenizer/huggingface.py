"""Tokenizers in the Hugging Face layout: ``tokenizer.json`` and the files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken
from tokenizers import Tokenizer as Backend
from tokenizers.processors import TemplateProcessing

from everlong.errors import CheckpointError, UnsupportedError
from everlong.tokenizer.chat_template import ChatTemplate
from everlong.tokenizer.tokenizer import Tokenizer

_MAX_TOKENIZER_BYTES = 256 << 20
_MAX_CONFIG_BYTES = 64 << 20
_ROLES = ("bos_token", "eos_token", "unk_token", "pad_token")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read the tokenizer of a model folder.

    ``tokenizer.json`` is required. Used where they exist: ``tokenizer_config.json`` and
    ``special_tokens_map.json`` (named tokens, added tokens, whether a begin-of-sequence token
    is added), ``chat_template.jinja`` or ``chat_template`` in the configuration, and
    ``generation_config.json`` or ``config.json`` (ids that end a turn).

    Raises:
        CheckpointError: a file is missing, damaged, or contradicts another.
        UnsupportedError: a kind of tokenizer that is not implemented.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        hint = ""
        if (folder / "tokenizer.model").is_file():
            hint = "; tokenizer.model alone is not read: convert it once with transformers"
        raise CheckpointError(f"{folder} has no tokenizer.json{hint}")
    backend = read_backend(path)
    config = _read_json(folder / "tokenizer_config.json")
    named = _named_tokens(config, _read_json(folder / "special_tokens_map.json"))
    _add_missing_tokens(backend, config, folder)
    _set_bos(backend, config, named, folder)
    source, tools_source = _templates(folder, config)
    template = None
    if source is not None:
        template = ChatTemplate(source, tools_source=tools_source, special_tokens=named)
    num_ids = 1 + max(backend.get_vocab(with_added_tokens=True).values(), default=-1)
    return Tokenizer(
        backend,
        named_tokens=named,
        eos_token_ids=_eos_ids(folder, num_ids),
        num_ids=num_ids,
        chat_template=template,
    )


def read_backend(path: Path) -> Backend:
    """The library's tokenizer in a ``tokenizer.json``.

    Raises:
        CheckpointError: the file cannot be read, is too large, or is no tokenizer.
    """
    text = _read_text(path, _MAX_TOKENIZER_BYTES)
    try:
        return Backend.from_str(text)
    except Exception as error:  # the library raises Exception itself
        raise CheckpointError(f"{path} is not a valid tokenizer: {error}") from None


def _read_text(path: Path, most: int) -> str:
    try:
        size = path.stat().st_size
        if size > most:
            raise CheckpointError(f"{path} has {size:,} bytes; at most {most:,} are read")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from None


def _read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(_read_text(path, _MAX_CONFIG_BYTES))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} must be a JSON object, not {type(value).__name__}")
    return value


def _named_tokens(config: dict[str, Any], older: dict[str, Any]) -> dict[str, str]:
    named = {}
    for role in _ROLES:
        token = config.get(role, older.get(role))
        if isinstance(token, dict):
            token = token.get("content")
        if isinstance(token, str):
            named[role] = token
    return named


def _add_missing_tokens(backend: Backend, config: dict[str, Any], folder: Path) -> None:
    """Add the tokens that only ``tokenizer_config.json`` lists, under the ids it gives them."""
    listed = config.get("added_tokens_decoder")
    if not isinstance(listed, dict):
        return
    try:
        tokens = sorted((int(key), entry["content"], entry) for key, entry in listed.items())
        for token_id, content, entry in tokens:
            if backend.token_to_id(content) is not None:
                continue
            flags = {
                flag: bool(entry.get(flag, False))
                for flag in ("single_word", "lstrip", "rstrip", "normalized", "special")
            }
            backend.add_tokens([AddedToken(content, **flags)])
            if backend.token_to_id(content) != token_id:
                raise CheckpointError(
                    f"{folder}/tokenizer_config.json gives {content!r} the id {token_id}, but "
                    f"the next free id of tokenizer.json is {backend.token_to_id(content)}"
                )
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"added_tokens_decoder in {folder}/tokenizer_config.json is malformed: {error!r}"
        ) from None


def _set_bos(backend: Backend, config: dict[str, Any], named: dict[str, str], folder: Path) -> None:
    """Follow ``add_bos_token`` where the rules of ``tokenizer.json`` do otherwise."""
    wanted = config.get("add_bos_token")
    bos = named.get("bos_token")
    bos_id = None if bos is None else backend.token_to_id(bos)
    if not isinstance(wanted, bool) or bos is None or bos_id is None:
        return
    added = backend.encode("").ids
    if wanted == (added[:1] == [bos_id]):
        return
    if len(added) > 1 or (added and added != [bos_id]):
        raise UnsupportedError(
            f"{folder}: add_bos_token is {wanted}, but tokenizer.json adds other tokens too; "
            "make them agree"
        )
    pieces = [bos, "$A"] if wanted else ["$A"]
    backend.post_processor = TemplateProcessing(single=pieces, special_tokens=[(bos, bos_id)])


def _templates(folder: Path, config: dict[str, Any]) -> tuple[str | None, str | None]:
    """The chat template, and the one for conversations with tools where it is another."""
    path = folder / "chat_template.jinja"
    value: Any = config.get("chat_template")
    if path.is_file():
        value = _read_text(path, _MAX_CONFIG_BYTES)
    if value is None or isinstance(value, str):
        return value, None
    try:
        by_name: dict[str, str] = {str(e["name"]): str(e["template"]) for e in value}
    except (TypeError, KeyError):
        raise CheckpointError(
            f"chat_template in {folder}/tokenizer_config.json must be a text, or a list of "
            "objects with name and template"
        ) from None
    return by_name.get("default"), by_name.get("tool_use")


def _eos_ids(folder: Path, num_ids: int) -> list[int]:
    for name in ("generation_config.json", "config.json"):
        value = _read_json(folder / name).get("eos_token_id")
        if value is None:
            continue
        ids = value if isinstance(value, list) else [value]
        if not all(isinstance(i, int) and not isinstance(i, bool) and i >= 0 for i in ids):
            raise CheckpointError(
                f"eos_token_id in {folder}/{name} must be token ids, not {value!r}"
            )
        return [i for i in ids if i < num_ids]
    return []
