"""The routing index's projection of a model: found once, kept in the cache.

It depends on the model as it is used, so it is kept under the model's fingerprint; who loses the
cache loses half a minute.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save

from everlong.checkpoint.loading import OpenedModel
from everlong.errors import ConfigError
from everlong.files import atomic_write, cache_dir, read_text
from everlong.model.calibration import calibrate
from everlong.model.routing_index import DIRECTIONS, Projection
from everlong.model.transformer import Transformer

_VERSION = 4
TOKENS = 4096
"""Of a text that it is found on."""


def projection_of(
    opened: OpenedModel,
    *,
    text: Path | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Projection:
    """The projection of a model, from the cache or found now.

    Args:
        opened: the model; it reads the text.
        text: a file to find it on, whatever the cache has; None: Python's own manual.
        say: told when it takes a while.

    Raises:
        ConfigError: the text cannot be read, or is too short.
    """
    model = opened.model
    path = cache_dir() / "routing" / f"{opened.fingerprint.hex()[:32]}-{_VERSION}.safetensors"
    if text is None and (kept := _read(path, model)) is not None:
        return kept
    say("finding what the routing index keeps of keys; once for each model")
    tokens = opened.tokenizer.encode(_manual() if text is None else read_text(text))
    directions = min(DIRECTIONS, model.config.head_dim)
    found = calibrate(model, tokens[: min(TOKENS, model.config.max_position)], directions)
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = {name: getattr(found, name).contiguous() for name in Projection.__annotations__}
    atomic_write(path, save(parts))
    return found


def _read(path: Path, model: Transformer) -> Projection | None:
    """What the cache has, if it is whole and fits the model."""
    c = model.config
    shape = (c.num_layers, c.num_kv_heads, c.head_dim, min(DIRECTIONS, c.head_dim))
    try:
        found = Projection(**load(path.read_bytes()))
    except (OSError, SafetensorError, TypeError):
        return None
    return found if found.encoder.shape == found.decoder.shape == shape else None


def _manual() -> str:
    """English prose, tables and code that every Python has: what its help() tells."""
    try:
        from pydoc_data.topics import topics
    except ImportError:
        raise ConfigError(
            "this Python has no manual to calibrate on; name a text with --text"
        ) from None
    return "\n\n".join(topics[name] for name in sorted(topics))
