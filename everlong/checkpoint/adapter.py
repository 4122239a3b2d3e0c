"""Low-rank adapters in the PEFT layout: ``adapter_config.json``, ``adapter_model.safetensors``."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from everlong.checkpoint.json_files import read_json
from everlong.checkpoint.safetensors import SafetensorsFile
from everlong.checkpoint.stored import StoredTensor
from everlong.errors import CheckpointError, UnsupportedError
from everlong.files import atomic_write, refuse_used, sha256_file
from everlong.model.adapters import Adapter, LoraConfig, LowRank

_KEY = re.compile(r"base_model\.model\.(?:model\.)?(.+)\.lora_([AB])\.weight")

# Settings under which an adapter is more than a low-rank change of linear layers.
_PLAIN: dict[str, tuple[Any, ...]] = {
    "use_dora": (False, None),
    "bias": ("none", None),
    "modules_to_save": (None, []),
    "trainable_token_indices": (None, []),
    "fan_in_fan_out": (False, None),
}


def read_adapter(folder: Path) -> Adapter:
    """Read a PEFT folder.

    Raises:
        CheckpointError: a file is missing or damaged, or the two files do not agree.
        UnsupportedError: the adapter is not LoRA, or uses what changes more than linear layers.
    """
    config = read_json(folder / "adapter_config.json")
    kind = config.get("peft_type")
    if kind != "LORA":
        raise UnsupportedError(f"{folder} holds a {kind!r} adapter; supported is 'LORA'")
    for name, plain in _PLAIN.items():
        if config.get(name) not in plain:
            raise UnsupportedError(
                f"{folder} uses {name}={config[name]!r}, which is not implemented"
            )
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        raise CheckpointError(f"{folder} has no adapter_model.safetensors")
    halves: dict[str, dict[str, Tensor]] = {}
    for name, found in SafetensorsFile(weights).tensors.items():
        match = _KEY.fullmatch(name)
        if match is None:
            raise UnsupportedError(
                f"{weights} has a tensor {name!r}, which is no half of a LoRA change"
            )
        stored = StoredTensor(name, found.shape, found.type, found.raw)
        halves.setdefault(match[1], {})[match[2]] = stored.dense().clone()
    changes = {}
    for layer, pair in halves.items():
        if set(pair) != {"A", "B"}:
            raise CheckpointError(f"{weights} has only one half of the change of {layer}")
        changes[layer] = LowRank(pair["A"], pair["B"], _scale(config, layer, folder))
    digest = sha256_file(weights) + sha256_file(folder / "adapter_config.json")
    return Adapter(changes, bytes.fromhex(digest))


def write_adapter(
    folder: Path, config: LoraConfig, changes: Mapping[str, LowRank], base: str
) -> None:
    """Write a PEFT folder, which ``peft`` and the engine load.

    Args:
        folder: new, or empty.
        config: of the adapter.
        changes: by the names of their layers.
        base: name of the model that it belongs to, for the record.

    Raises:
        ConfigError: the folder is in use.
        CheckpointError: it cannot be written.
    """
    refuse_used(folder)
    tensors = {}
    for name, change in changes.items():
        key = f"base_model.model.model.{name}"
        tensors[f"{key}.lora_A.weight"] = change.down.detach().float().contiguous()
        tensors[f"{key}.lora_B.weight"] = change.up.detach().float().contiguous()
    described = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "target_modules": [*config.layers],
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
        atomic_write(
            folder / "adapter_config.json", (json.dumps(described, indent=2) + "\n").encode()
        )
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be written: {error}") from error


def _scale(config: dict[str, Any], layer: str, folder: Path) -> float:
    rank = _of_layer(config.get("rank_pattern"), layer, config.get("r"))
    alpha = _of_layer(config.get("alpha_pattern"), layer, config.get("lora_alpha"))
    numbers = all(isinstance(v, int | float) and not isinstance(v, bool) for v in (rank, alpha))
    if not numbers or rank <= 0:
        raise CheckpointError(f"{folder}: r and lora_alpha must be numbers, r above 0")
    return float(alpha / math.sqrt(rank) if config.get("use_rslora") else alpha / rank)


def _of_layer(pattern: Any, layer: str, default: Any) -> Any:
    """The value that PEFT's ``rank_pattern`` and ``alpha_pattern`` give a layer.

    PEFT reads the keys as regular expressions; only plain names are accepted here, which match a
    layer or the end of its name, because an expression from a stranger may never end.
    """
    for name, value in (pattern or {}).items():
        if not re.fullmatch(r"[\w.]+", name):
            raise UnsupportedError(f"the pattern {name!r} of an adapter is not a plain name")
        if layer == name or layer.endswith("." + name):
            return value
    return default
