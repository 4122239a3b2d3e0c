"""Everlong: language models that remember, on a plain CPU."""

from everlong.engine.async_engine import AsyncEngine
from everlong.engine.engine import EngineConfig
from everlong.engine.llm import LLM, load
from everlong.engine.request import Chunk, Completion, Constraint, SamplingParams

__version__ = "0.1.0"

__all__ = [
    "LLM",
    "AsyncEngine",
    "Chunk",
    "Completion",
    "Constraint",
    "EngineConfig",
    "SamplingParams",
    "load",
]
