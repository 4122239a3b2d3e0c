"""Low-rank adapters in the PEFT layout: ``adapter_config.json``, ``adapter_model.safetensors``."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

from torch import Tensor

from everlong.checkpoint.json_files import read_json
from everlong.checkpoint.safetensors import SafetensorsFile
from everlong.checkpoint.stored import StoredTensor
from everlong.errors import CheckpointError, UnsupportedError
from everlong.files import sha256_file
from everlong.model.adapters import Adapter, LowRank

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
