"""Everlong: language models that remember, on a plain CPU."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from everlong.engine.async_engine import AsyncEngine
    from everlong.engine.config import EngineConfig
    from everlong.engine.llm import LLM
    from everlong.engine.loading import load
    from everlong.engine.request import Chunk, Completion, Constraint, SamplingParams
    from everlong.memory.memory import Memory

__version__ = "0.1.0"

__all__ = [
    "LLM",
    "AsyncEngine",
    "Chunk",
    "Completion",
    "Constraint",
    "EngineConfig",
    "Memory",
    "SamplingParams",
    "load",
]

_HOMES = {
    "LLM": "everlong.engine.llm",
    "load": "everlong.engine.loading",
    "AsyncEngine": "everlong.engine.async_engine",
    "EngineConfig": "everlong.engine.config",
    "Chunk": "everlong.engine.request",
    "Completion": "everlong.engine.request",
    "Constraint": "everlong.engine.request",
    "SamplingParams": "everlong.engine.request",
    "Memory": "everlong.memory.memory",
}


def __getattr__(name: str) -> Any:
    # PyTorch takes a second to import, which `everlong --help` need not wait for.
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'everlong' has no attribute {name!r}")
