"""Settings of ``everlong serve``, named as vLLM names them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from everlong.errors import ConfigError

ENGINE_SETTINGS = (
    "max_model_len",
    "max_num_seqs",
    "max_num_batched_tokens",
    "max_waiting",
    "kv_cache_memory",
    "deterministic",
    "memory_kv_dtype",
    "attention",
)
"""Settings that are handed to ``EngineConfig``, which knows their defaults and bounds."""


@dataclass(frozen=True)
class ServeConfig:
    """What is served, to whom, and within which bounds."""

    model: str
    """Name of the catalog, hf:ORG/NAME, or a path."""
    host: str = "127.0.0.1"
    port: int = 8000
    """0 takes a free one."""
    api_key: tuple[str, ...] = ()
    """Keys that clients must send; each opens a namespace of its own. None lets everyone in."""
    weights: Literal["auto", "float32", "bf16", "int8", "int4"] = "auto"
    """``auto`` keeps the checkpoint's own values."""
    max_model_len: int | None = None
    """Window in tokens; this and the five settings below are the engine's own where None."""
    max_num_seqs: int | None = None
    """Requests computed together."""
    max_num_batched_tokens: int | None = None
    """Tokens in one step; longer prompts are read in pieces of this size."""
    max_waiting: int | None = None
    """Requests that may wait; more are told to try again later."""
    kv_cache_memory: int | None = None
    """Bytes for keys and values."""
    deterministic: bool | None = None
    """A request's tokens do not depend on what else is served."""
    memory: Path | None = None
    """Folder of what is remembered; None: everlong/memory among the user's data."""
    no_memory: bool = False
    """Nothing is remembered, and nothing written."""
    memory_size: str = "16GB"
    """Most bytes of keys and values on disk, such as 500MB."""
    memory_quota: str | None = None
    """Most bytes of one key's texts, and of its keys and values, such as 2GB; None: no limit."""
    memory_kv_dtype: Literal["auto", "int8"] | None = None
    """Keys and values in the memory: as they are, or rounded, in half of the bytes."""
    attention: Literal["dense", "routed"] | None = None
    """Routed: at long context tokens read the keys and values that their content asks for, and the
    window may be longer than the one that the model was trained for."""
    embedder: str | None = None
    """Sentence encoder of recall: a name of the catalog, or a folder; None: the model's words."""
    remember: Literal["sessions", "all"] = "sessions"
    """Keep the conversations of requests that name a session, or those of all."""
    lora_modules: Mapping[str, str] = field(default_factory=dict)
    """Adapters by the name that requests give: folders in PEFT's layout."""
    served_model_name: str | None = None
    """Name that requests use; None is the model's own."""
    allowed_hosts: tuple[str, ...] = ()
    """Names besides the loopback ones that a Host header may carry; ``*`` allows all."""
    allowed_origins: tuple[str, ...] = ()
    """Origins, such as https://chat.example.org, whose pages may call from a browser."""
    max_body_bytes: int = 4 << 20
    drain_seconds: float = 30.0
    """How long running requests may take to finish once the server is told to stop."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    def __post_init__(self) -> None:
        if not 0 <= self.port < 65536:
            raise ConfigError(f"port must be between 0 and 65535, not {self.port}")
        if self.max_body_bytes < 1024:
            raise ConfigError(f"max_body_bytes must be at least 1024, not {self.max_body_bytes}")
        if not self.drain_seconds >= 0:
            raise ConfigError(f"drain_seconds must be at least 0, not {self.drain_seconds}")
