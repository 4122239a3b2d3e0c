"""How much the engine does at once, and what that takes."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod
from typing import Literal

import torch

from everlong.engine.stored_blocks import FORMATS
from everlong.errors import ConfigError
from everlong.model.cache import BLOCK, block_shape
from everlong.model.config import ModelConfig
from everlong.model.routing import Budget
from everlong.model.routing_index import index_shape


@dataclass(frozen=True)
class EngineConfig:
    """How much the engine does at once."""

    max_model_len: int | None = None
    """Window in tokens; None: the model's trained window, as far as the pool holds it."""
    max_num_seqs: int = 16
    """Sequences decoded together."""
    max_num_batched_tokens: int = 512
    """Tokens in one step: longer prompts are cut into chunks of this size."""
    max_waiting: int = 256
    """Requests that may wait; more are refused."""
    kv_cache_memory: int = 1 << 30
    """Bytes of memory for keys and values."""
    deterministic: bool = False
    """A request's tokens do not depend on the other requests, on chunking or on cache hits."""
    memory_kv_dtype: Literal["auto", "int8"] = "auto"
    """How keys and values are kept in the memory: as they are, or rounded, in half of the bytes."""
    attention: Literal["dense", "routed"] = "dense"
    """Whether a token reads all keys and values, or at long context those that its content asks
    for; routed, the window may be longer than the one that the model was trained for."""
    budget: Budget = field(default_factory=Budget)
    """How much routed attention reads."""

    def __post_init__(self) -> None:
        for name in ("max_num_seqs", "max_num_batched_tokens", "kv_cache_memory"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, not {getattr(self, name)}")
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise ConfigError(
                f"max_num_batched_tokens ({self.max_num_batched_tokens}) must be at least "
                f"max_num_seqs ({self.max_num_seqs}): every sequence needs a token in each step"
            )
        if self.max_waiting < 0:
            raise ConfigError(f"max_waiting must be at least 0, not {self.max_waiting}")
        if self.max_model_len is not None and self.max_model_len < 2:
            raise ConfigError(f"max_model_len must be at least 2, not {self.max_model_len}")
        if self.attention not in ("dense", "routed"):
            raise ConfigError(f"attention is {self.attention}; allowed are dense, routed")
        if self.deterministic and self.routed:
            raise ConfigError(
                "deterministic and attention routed exclude each other: what tokens read depends "
                "on which of them are computed together"
            )
        if self.memory_kv_dtype not in FORMATS:
            raise ConfigError(
                f"memory_kv_dtype is {self.memory_kv_dtype}; allowed are {', '.join(FORMATS)}"
            )
        if self.deterministic and not FORMATS[self.memory_kv_dtype].exact:
            raise ConfigError(
                f"deterministic and memory_kv_dtype {self.memory_kv_dtype} exclude each other: "
                "what is read from the memory would not be what was computed"
            )

    @property
    def routed(self) -> bool:
        """Whether attention is."""
        return self.attention == "routed"

    def sizes(self, model: ModelConfig, dtype: torch.dtype) -> tuple[int, int]:
        """How many blocks the pool has, and how many tokens the window.

        Args:
            model: whose keys and values the blocks hold.
            dtype: of keys and values.

        Raises:
            ConfigError: the pool is too small for the window, or the window too long for the model.
        """
        block_bytes = prod(block_shape(model)) * dtype.itemsize
        if self.routed:
            block_bytes += prod(index_shape(model))
        blocks = self.kv_cache_memory // block_bytes
        trained = model.max_position
        window = self.max_model_len or min(trained, blocks * BLOCK)
        if window > trained and not self.routed:
            raise ConfigError(
                f"max_model_len is {window}, and the model was trained for {trained} tokens; "
                "lower max_model_len, or let attention be routed"
            )
        needed = -(-window // BLOCK)
        if blocks < needed or blocks < 1:
            raise ConfigError(
                f"kv_cache_memory of {self.kv_cache_memory:,} bytes holds {blocks} blocks, "
                f"and a window of {max(window, BLOCK)} tokens needs {max(needed, 1)} of "
                f"{block_bytes:,} bytes; raise kv_cache_memory or lower max_model_len"
            )
        return blocks, window
